//! Registries that mean harm.

use kit::web::{Fault, Page};
use oci::{Digest, media_type};

use super::{
    Case, Stand, archive, config, described, descriptor, file, gzip, gzipped_zeros, header, index,
    manifest, part, words,
};

const fn case(name: &'static str, make: fn(&Stand) -> Vec<String>) -> Case {
    Case { name, make }
}

fn with(status: u16, headers: &[(&str, String)]) -> Page {
    let headers = headers.iter();
    Page {
        status,
        headers: headers
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        ..Page::default()
    }
}

fn challenge(stand: &Stand, realm: &str) -> Vec<String> {
    let value = format!("Bearer realm=\"{realm}\",service=\"x\"");
    stand.manifest_page(with(401, &[("WWW-Authenticate", value)]))
}

fn redirect(stand: &Stand, to: &str) -> Vec<String> {
    stand.manifest_page(Page::redirect(to))
}

/// One layer whose tar this is.
fn tar_layer(stand: &Stand, tar: &[u8]) -> Vec<String> {
    stand.layer(tar, &gzip(tar))
}

/// Members in a directory in a directory and so on.
fn deep(levels: usize) -> Vec<u8> {
    // As a PAX record: no other form has room for it.
    let path = "d/".repeat(levels);
    let record = format!(" path={path}\n");
    let length = (record.len()..).find(|it| it.to_string().len() + record.len() == *it);
    let record = format!("{}{record}", length.unwrap());
    let mut pax = part(b'x', "pax", "");
    pax.content = record.into_bytes();
    archive(&[pax, part(b'5', "x", "")])
}

pub(super) const CASES: &[Case] = &[
    case("manifest: without end", |stand| {
        stand.manifest_page(Page {
            fault: Fault::Endless,
            ..Page::new("{")
        })
    }),
    case("manifest: a byte a second", |stand| {
        stand.manifest_page(Page {
            fault: Fault::Trickles,
            ..Page::new(vec![b' '; 1000])
        })
    }),
    case("manifest: nobody says anything", |stand| {
        stand.manifest_page(Page {
            fault: Fault::Silent,
            ..Page::new("{}")
        })
    }),
    case("manifest: nested without end", |stand| {
        stand.manifest("[".repeat(1 << 20))
    }),
    case("manifest: packed with gzip, unpacks to 1 GiB", |stand| {
        let packed = Page::new(gzipped_zeros(1024));
        let headers = vec![("content-encoding".to_owned(), "gzip".to_owned())];
        stand.manifest_page(Page { headers, ..packed })
    }),
    case("manifest: a header of 1 MiB", |stand| {
        stand.manifest_page(with(200, &[("x-large", "x".repeat(1 << 20))]))
    }),
    case("manifest: 10,000 headers", |stand| {
        let headers: Vec<(&str, String)> = vec![("x-many", "x".to_owned()); 10_000];
        stand.manifest_page(with(200, &headers))
    }),
    case("manifest: an image and an index at once", |stand| {
        stand.manifest(r#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#)
    }),
    case("manifest: called an index by the registry", |stand| {
        let headers = vec![("content-type".to_owned(), media_type::INDEX.to_owned())];
        let page = Page::new(manifest(&[described(b"{}")], &[]));
        stand.manifest_page(Page { headers, ..page })
    }),
    case("manifest: schema 1", |stand| {
        stand.manifest(r#"{"schemaVersion":1,"fsLayers":[]}"#)
    }),
    case("manifest: 20,000 layers", |stand| {
        stand.manifest(manifest(&[described(b"{}")], &vec![described(b""); 20_000]))
    }),
    case("manifest: a digest that is a path", |stand| {
        stand.manifest(manifest(
            &[descriptor("sha256:../../../etc/passwd", 2)],
            &[],
        ))
    }),
    case("manifest: a digest of MD5", |stand| {
        let digest = "md5:d41d8cd98f00b204e9800998ecf8427e";
        stand.manifest(manifest(&[descriptor(digest, 2)], &[]))
    }),
    case("manifest: a size below nothing", |stand| {
        stand.manifest(manifest(&[described(b"{}").replace(":2,", ":-2,")], &[]))
    }),
    case("manifest: other bytes than its digest", |stand| {
        let digest = Digest::of(b"honest");
        let path = format!("/v2/app/manifests/{digest}");
        stand
            .web
            .put(&path, Page::new(manifest(&[described(b"{}")], &[])));
        words(&["pull", "-q", &format!("{}/app@{digest}", stand.web.host())])
    }),
    case("index: leads to itself by way of another", |stand| {
        let host = oci::Platform::host();
        let platform = format!(
            r#","platform":{{"os":"linux","architecture":"{}"}}}}"#,
            host.architecture
        );
        let entry = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            let media_type = media_type::MANIFEST;
            format!(
                r#"{{"mediaType":"{media_type}","size":{},"digest":"{digest}"{platform}"#,
                bytes.len()
            )
        };
        let inner = index(&[]).into_bytes();
        let path = format!("/v2/app/manifests/{}", Digest::of(&inner));
        stand.web.put(&path, Page::new(inner.clone()));
        stand.manifest(index(&[entry(&inner)]))
    }),
    case("index: 20,000 platforms, none of them this one", |stand| {
        let entry = |number: u32| {
            let platform =
                format!(r#","platform":{{"os":"linux","architecture":"cpu{number}"}}}}"#);
            let entry = described(b"{}").replace("\"x\"", &format!("\"{}\"", media_type::MANIFEST));
            entry.replace('}', &platform)
        };
        stand.manifest(index(&(0..15_000).map(entry).collect::<Vec<_>>()))
    }),
    case("config: said to be 1 GiB", |stand| {
        let config = descriptor(&Digest::of(b"").to_string(), 1 << 30);
        stand.manifest(manifest(&[config], &[]))
    }),
    case("config: without end", |stand| {
        let digest = Digest::of(b"{}");
        stand.blob_page(
            &digest,
            Page {
                fault: Fault::Endless,
                ..Page::new("{}")
            },
        );
        stand.manifest(manifest(&[described(b"{}")], &[]))
    }),
    case("config: promises more layers than there are", |stand| {
        let config = config(&[Digest::of(b"x"); 3]);
        stand.blob(&config);
        stand.manifest(manifest(&[described(&config)], &[described(b"x")]))
    }),
    case("config: no JSON", |stand| {
        stand.blob(b"<html>");
        stand.manifest(manifest(&[described(b"<html>")], &[]))
    }),
    case("layer: other bytes than its digest", |stand| {
        let line = tar_layer(stand, &archive(&[file("x", "y")]));
        let packed = gzip(&archive(&[file("x", "y")]));
        let other: Vec<u8> = packed.iter().map(|it| it ^ 1).collect();
        stand.blob_page(&Digest::of(&packed), Page::new(other));
        line
    }),
    case("layer: longer than its size", |stand| {
        let packed = gzip(&archive(&[file("x", "y")]));
        let line = tar_layer(stand, &archive(&[file("x", "y")]));
        stand.blob_page(
            &Digest::of(&packed),
            Page {
                fault: Fault::Endless,
                ..Page::new(&packed[..])
            },
        );
        line
    }),
    case("layer: shorter than its size", |stand| {
        let packed = gzip(&archive(&[file("x", "y")]));
        let line = tar_layer(stand, &archive(&[file("x", "y")]));
        stand.blob_page(&Digest::of(&packed), Page::new(&packed[..50]));
        line
    }),
    case("layer: another than the config promises", |stand| {
        stand.layer(b"another", &gzip(&archive(&[file("x", "y")])))
    }),
    case("layer: only at an address elsewhere", |stand| {
        let config = config(&[Digest::of(b"x")]);
        stand.blob(&config);
        let urls = format!(r#","urls":["{}"]}}"#, stand.other.url("/layer"));
        let foreign = described(b"x").replace('}', &urls);
        stand.manifest(manifest(&[described(&config)], &[foreign]))
    }),
    case("layer: unpacks to 1 GiB of one file, gzip", |stand| {
        let tar = header(&file("zeros", ""), 1 << 30);
        stand.layer(b"x", &[gzip(&tar), gzipped_zeros(1024)].concat())
    }),
    case("layer: unpacks to 4 GiB behind its end, zstd", |stand| {
        let tar = archive(&[file("x", "y")]);
        let zeros = zstd::encode_all(&vec![0; 64 << 20][..], 1).unwrap();
        let packed = [zstd::encode_all(&tar[..], 1).unwrap(), zeros.repeat(64)].concat();
        stand.layer(b"x", &packed)
    }),
    case("layer: zstd that wants 2 GiB to unpack", |stand| {
        let mut packer = zstd::Encoder::new(Vec::new(), 1).unwrap();
        packer.window_log(31).unwrap();
        std::io::copy(&mut &vec![0; 1 << 20][..], &mut packer).unwrap();
        stand.layer(b"x", &packer.finish().unwrap())
    }),
    case("layer: packed with bzip2", |stand| {
        let line = "head -c 10240 /dev/zero | bzip2 > layer";
        kit::rbuild::run(&mut stand.rbuild.shell(line)).success();
        let packed = std::fs::read(stand.path("layer")).unwrap();
        stand.layer(&[0; 10240], &packed)
    }),
    case("layer: a file that is 1 TiB of nothing", |stand| {
        let map = "GNU.sparse.major=1\nGNU.sparse.minor=0\n";
        let _ = map;
        let records = [
            "22 GNU.sparse.major=1\n",
            "22 GNU.sparse.minor=0\n",
            "25 GNU.sparse.name=holes\n",
            "38 GNU.sparse.realsize=1099511627776\n",
        ];
        let mut pax = part(b'x', "pax", "");
        pax.content = records.concat().into_bytes();
        let mut map = b"0\n".to_vec();
        map.resize(512, 0);
        tar_layer(stand, &archive(&[pax, file("GNUSparseFile.0/holes", map)]))
    }),
    case("layer: 20,000 files", |stand| {
        let parts: Vec<_> = (0..20_000).map(|it| file(&format!("{it}"), "")).collect();
        tar_layer(stand, &archive(&parts))
    }),
    case("layer: 500 directories in each other", |stand| {
        tar_layer(stand, &deep(500))
    }),
    case("layer: metadata of 16 MiB", |stand| {
        let mut pax = part(b'x', "pax", "");
        pax.content = vec![b'x'; 16 << 20];
        tar_layer(stand, &archive(&[pax, file("x", "")]))
    }),
    case("layer: a name above the root", |stand| {
        tar_layer(stand, &archive(&[file("../../x", "")]))
    }),
    case("layer: a hard link above the root", |stand| {
        tar_layer(stand, &archive(&[part(b'1', "h", "../../../etc/shadow")]))
    }),
    case("layer: a hard link through a link", |stand| {
        let parts = [part(b'2', "d", "/etc"), part(b'1', "h", "d/shadow")];
        tar_layer(stand, &archive(&parts))
    }),
    case("layer: a device that is a whiteout", |stand| {
        tar_layer(stand, &archive(&[part(b'3', "w", "")]))
    }),
    case("layer: ends in the middle", |stand| {
        let tar = archive(&[file("x", vec![b'x'; 4000])]);
        tar_layer(stand, &tar[..2000])
    }),
    case("layer: no tar", |stand| {
        tar_layer(stand, &b"no tar at all\n".repeat(100))
    }),
    case("redirect: to a file", |stand| {
        redirect(stand, "file:///etc/passwd")
    }),
    case("redirect: to a cloud's metadata", |stand| {
        redirect(stand, "http://169.254.169.254/latest/meta-data/")
    }),
    case("redirect: to the same, written otherwise", |stand| {
        redirect(stand, "http://[::ffff:a9fe:a9fe]/latest/meta-data/")
    }),
    case("redirect: to itself", |stand| {
        redirect(stand, "/v2/app/manifests/v1")
    }),
    case("realm: on another host, with a password to lose", |stand| {
        stand.log_in();
        stand.other.put("/token", with(401, &[]));
        challenge(
            stand,
            &stand.other.url("/token").replace("127.0.0.1", "127.0.0.2"),
        )
    }),
    case("realm: a file", |stand| {
        challenge(stand, "file:///etc/passwd")
    }),
    case("realm: a cloud's metadata", |stand| {
        challenge(stand, "http://169.254.169.254/latest/api/token")
    }),
    case("realm: a token of 64 MiB", |stand| {
        let token = format!(r#"{{"token":"{}"}}"#, "x".repeat(64 << 20));
        stand.web.put("/token", Page::new(token));
        challenge(stand, &stand.web.url("/token"))
    }),
    case("realm: a token with a line break", |stand| {
        stand
            .web
            .put("/token", Page::new(r#"{"token":"x\r\nx-more: y"}"#));
        challenge(stand, &stand.web.url("/token"))
    }),
    case("realm: a token that never does", |stand| {
        stand.web.put("/token", Page::new(r#"{"token":"x"}"#));
        challenge(stand, &stand.web.url("/token"))
    }),
    case("busy: for thirty years", |stand| {
        stand.manifest_page(with(429, &[("retry-after", "999999999".to_owned())]))
    }),
    case("error: of 1 MiB, for the terminal", |stand| {
        let words = "\\u001b[2J".repeat(100_000);
        let body = format!(r#"{{"errors":[{{"code":"X","message":"{words}"}}]}}"#);
        stand.manifest_page(Page {
            status: 418,
            ..Page::new(body)
        })
    }),
    case("error: of a long sentence, for the terminal", |stand| {
        let words = "\\u001b[2J all is lost".repeat(1000);
        let body = format!(r#"{{"errors":[{{"code":"X","message":"{words}"}}]}}"#);
        stand.manifest_page(Page {
            status: 418,
            ..Page::new(body)
        })
    }),
    case("tags: go on elsewhere", |stand| {
        let next = format!("<{}>; rel=\"next\"", stand.other.url("/v2/app/tags/list"));
        let headers = vec![("link".to_owned(), next)];
        let page = Page::new(r#"{"tags":["a"]}"#);
        stand.web.put("/v2/app/tags/list", Page { headers, ..page });
        words(&["pull", "-a", &format!("{}/app", stand.web.host())])
    }),
    case("tags: without end", |stand| {
        let tags = vec!["\"a\""; 60_000].join(",");
        let next = "</v2/app/tags/list?last=a>; rel=\"next\"".to_owned();
        let page = Page::new(format!(r#"{{"tags":[{tags}]}}"#));
        let headers = vec![("link".to_owned(), next)];
        stand.web.put("/v2/app/tags/list", Page { headers, ..page });
        words(&["pull", "-q", "-a", &format!("{}/app", stand.web.host())])
    }),
];
