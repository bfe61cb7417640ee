//! What others make of the archives we write, and we of theirs.

use kit::rbuild::{Rbuild, run};
use kit::web::{Fault, Page, Web};

use super::rbuild;

/// An image with every kind of thing a layer can say: a whiteout, an opaque directory, links, modes, owners.
const DOCKERFILE: &str = "\
FROM busybox
RUN mkdir -p /d/e && echo one > /d/one && echo two > /d/e/two && ln -s one /d/link && ln /d/one /d/hard
RUN rm /d/one && rm -r /d/e && mkdir /d/e && echo three > /d/e/three && chown 7:8 /d/e/three && chmod 4711 /d/e/three
ENV GREETING=hello
CMD [\"sh\", \"-c\", \"echo $GREETING; ls /d /d/e; stat -c '%a %u %g' /d/e/three\"]
";

pub(super) const SAID: &str = "hello\n/d:\ne\nhard\nlink\n\n/d/e:\nthree\n4711 7 8\n";

/// An rbuild with that image, and its archive in `saved.tar`.
pub(super) fn saved() -> Rbuild {
    let rbuild = rbuild();
    rbuild.write("Dockerfile", DOCKERFILE);
    rbuild
        .run(["build", "-q", "-t", "example.com/archived:v1", "."])
        .success();
    assert_eq!(
        rbuild
            .run(["run", "--rm", "example.com/archived:v1"])
            .success()
            .stdout,
        SAID
    );
    rbuild
        .run([
            "image",
            "save",
            "-o",
            "saved.tar",
            "example.com/archived:v1",
        ])
        .success();
    rbuild
}

#[test]
fn skopeo_reads_what_save_writes_both_ways_as_root() {
    let rbuild = saved();
    for transport in ["docker-archive", "oci-archive"] {
        let looked =
            run(&mut rbuild.shell(&format!("skopeo inspect --config {transport}:saved.tar")))
                .success();
        assert!(
            looked.stdout.contains("GREETING=hello"),
            "{}",
            looked.stdout
        );
        // A copy checks every digest, and every layer against its diff id.
        run(&mut rbuild.shell(&format!(
            "skopeo copy -q {transport}:saved.tar dir:{transport}"
        )))
        .success();
    }
}

#[test]
fn umoci_unpacks_what_save_writes_as_root() {
    let rbuild = saved();
    let line = "skopeo copy -q oci-archive:saved.tar oci:layout:v1 && umoci unpack --image layout:v1 bundle \
                && cat bundle/rootfs/d/e/three bundle/rootfs/d/hard && ls bundle/rootfs/d bundle/rootfs/d/e";
    let unpacked = run(&mut rbuild.shell(line)).success();
    assert_eq!(
        unpacked.stdout.lines().collect::<Vec<_>>().join(" "),
        "three one bundle/rootfs/d: e hard link  bundle/rootfs/d/e: three"
    );
}

#[test]
fn podman_loads_and_runs_what_save_writes_as_root() {
    let rbuild = saved();
    // Limits it need not raise, a runtime that takes every kernel's control groups, and no network: it has its ways.
    let podman = "podman --root $PWD/s --runroot $HOME/r --storage-driver vfs --cgroup-manager cgroupfs --runtime runc";
    run(&mut rbuild.shell(&format!("{podman} load -q -i saved.tar"))).success();
    let line = format!(
        "{podman} run --rm --network none --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 example.com/archived:v1"
    );
    let said = run(&mut rbuild.shell(&line)).success();
    assert_eq!(said.stdout, SAID);
}

#[test]
fn load_brings_back_what_save_wrote_as_root() {
    let rbuild = saved();
    let ids = |it: &Rbuild| {
        it.run(["images", "-q", "--no-trunc", "example.com/archived"])
            .success()
            .stdout
    };
    let before = ids(&rbuild);
    rbuild.run(["rmi", "example.com/archived:v1"]).success();
    assert_eq!(ids(&rbuild), "");
    let loaded = rbuild.run(["image", "load", "-i", "saved.tar"]).success();
    assert_eq!(loaded.stdout, "Loaded image: example.com/archived:v1\n");
    assert_eq!(ids(&rbuild), before);
    assert_eq!(
        rbuild
            .run(["run", "--rm", "example.com/archived:v1"])
            .success()
            .stdout,
        SAID
    );
}

#[test]
fn load_reads_what_skopeo_writes_both_ways_as_root() {
    let rbuild = saved();
    for transport in ["docker-archive", "oci-archive"] {
        let name = format!("example.com/{transport}:v1");
        let out = format!("theirs.{transport}:{name}");
        run(&mut rbuild.shell(&format!(
            "skopeo copy -q oci-archive:saved.tar {transport}:{out}"
        )))
        .success();
        rbuild
            .run(["image", "load", "-i", &format!("theirs.{transport}")])
            .success();
        assert_eq!(
            rbuild.run(["run", "--rm", &name]).success().stdout,
            SAID,
            "{transport}"
        );
    }
}

#[test]
fn a_root_file_system_is_imported_from_an_address_as_root() {
    let web = Web::start().unwrap();
    let rbuild = rbuild();
    let tar = "mkdir -p fs/etc && echo hello > fs/etc/motd && tar -czf fs.tar.gz -C fs .";
    run(&mut rbuild.shell(tar)).success();
    let body = std::fs::read(rbuild.work().join("fs.tar.gz")).unwrap();
    let page = |fault| Page {
        body: body.clone(),
        fault,
        ..Page::default()
    };
    web.put("/fs.tar.gz", page(Fault::None));
    web.put("/half.tar.gz", page(Fault::Breaks));
    let import = |path: &str| rbuild.run(["import", &web.url(path), "from-web"]);
    import("/fs.tar.gz").success();
    let line = ["inspect", "-f", "{{.Comment}}", "from-web"];
    let comment = rbuild.run(line).success().stdout;
    assert_eq!(
        comment,
        format!("Imported from {}\n", web.url("/fs.tar.gz"))
    );
    import("/half.tar.gz").failure(1);
    let missing = import("/missing.tar.gz").failure(1);
    let url = web.url("/missing.tar.gz");
    assert_eq!(
        missing.stderr,
        format!("error: cannot import `{url}`: the server answered 404\n")
    );
    assert_eq!(
        rbuild
            .run(["images", "-q"])
            .success()
            .stdout
            .lines()
            .count(),
        2,
        "busybox, and what came whole"
    );
}
