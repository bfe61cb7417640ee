//! All documents that rbuild writes, compared with the image specification's own JSON schemas.

use std::ffi::OsStr;
use std::path::Path;

use kit::docker_registry::{Access, Server};
use kit::rbuild::{Output, Rbuild, run};

use super::rbuild;

/// Every instruction that leaves something in a config, and layers.
const DOCKERFILE: &str = "\
FROM busybox
MAINTAINER somebody
LABEL org.example.a=1 b=\"two words\"
ENV GREETING=hello
EXPOSE 80/tcp 53/udp
VOLUME /data
USER 1:2
WORKDIR /work
RUN echo one > /tmp/one
COPY Dockerfile /work/
HEALTHCHECK --interval=5s CMD true
STOPSIGNAL SIGINT
SHELL [\"/bin/sh\", \"-c\"]
ONBUILD RUN true
ENTRYPOINT [\"sh\"]
CMD [\"-c\", \"true\"]
";

/// One for any platform.
const ANY: &str = "FROM scratch\nCOPY Dockerfile /\nCOPY any /\n";

/// What writes a layout, each into `$out`.
const LAYOUTS: &[&str] = &[
    "rbuild build -q -t app:v1 -o type=oci,dest=$out,tar=false .",
    "rbuild build -q -t app:v1 -o type=oci,dest=$out,tar=false,compression=gzip .",
    "rbuild build -q -t app:v1 -o type=oci,dest=$out,tar=false,compression=zstd,compression-level=3 .",
    "rbuild build -q -t app:v1 -o type=oci,dest=$out,tar=false,oci-mediatypes=false .",
    "rbuild build -q -o type=oci,dest=$out,tar=false .",
    "rbuild build -q -o type=oci,dest=$out,tar=false --annotation manifest,manifest-descriptor:a=b .",
    "rbuild build -q -o type=oci,dest=$out,tar=false --sbom --provenance=mode=max .",
    "rbuild build -q -o type=oci,dest=$out,tar=false,rewrite-timestamp=true --build-arg SOURCE_DATE_EPOCH=0 .",
    "rbuild build -q -t any -f any --platform linux/amd64,linux/arm64,linux/arm/v7 -o type=oci,dest=$out,tar=false --annotation index,index-descriptor,manifest,manifest-descriptor:a=b --sbom --provenance .",
    "rbuild build -q -t any -f any --platform linux/amd64,linux/arm64 -o type=oci,dest=$out,tar=false,oci-mediatypes=false .",
    "rbuild build -q -t app:v1 --cache-to type=inline -o type=oci,dest=$out,tar=false .",
    // A name more in a layout that has others.
    "rbuild build -q -t one -o type=oci,dest=$out,tar=false . && rbuild build -q -t any:v2 -f any --platform linux/amd64,linux/arm64 -o type=oci,dest=$out,tar=false .",
    // Archives, of what the store keeps.
    "rbuild build -q -t app:v1 --sbom --provenance --annotation kept=yes . && rbuild save app:v1 | tar -xC $out",
    "rbuild build -q -t any:v3 -f any --platform linux/amd64,linux/arm64 --annotation index:kept=yes --provenance . && rbuild save any:v3 busybox | tar -xC $out",
    "rbuild build -q -t app:v1 -o type=docker,dest=- . | tar -xC $out",
    // What came from elsewhere.
    "skopeo copy -q --all oci:1:v1 docker-archive:theirs.tar:theirs:v1 && rbuild load -q -i theirs.tar && rbuild save theirs:v1 | tar -xC $out",
    // Made without a build.
    "tar -c Dockerfile | rbuild import - --change 'ENV A=b' --message hello imported && rbuild save imported | tar -xC $out",
    // Caches are manifests, too.
    "rbuild build -q --cache-to type=local,dest=$out,mode=max .",
    "rbuild build -q --cache-to type=local,dest=$out,mode=max,mounts=all -f mounts .",
];

/// The specification's word on documents of `kind`.
fn check<I: AsRef<OsStr>>(
    rbuild: &Rbuild,
    kind: &str,
    paths: impl IntoIterator<Item = I>,
) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/image-spec/check.py");
    let mut python = rbuild.shell("exec /usr/bin/python3 \"$0\" \"$@\"");
    run(python.arg(script).arg(kind).args(paths))
}

fn with_files() -> Rbuild {
    let rbuild = rbuild();
    rbuild.write("Dockerfile", DOCKERFILE);
    rbuild.write("any", ANY);
    rbuild.write(
        "mounts",
        "FROM busybox\nRUN --mount=type=cache,target=/c echo kept > /c/kept\n",
    );
    rbuild
}

#[test]
fn layouts_and_archives_are_what_the_specification_says_as_root() {
    let rbuild = with_files();
    for (number, line) in LAYOUTS.iter().enumerate() {
        let out = (number + 1).to_string();
        let line = format!("out={out}; mkdir $out; {line}");
        run(&mut rbuild.shell(&line)).success();
        let said = check(&rbuild, "layout", [&out]);
        assert!(said.status.success(), "{line}\n{}", said.transcript());
        let documents = said
            .stdout
            .lines()
            .filter(|it| it.contains("manifest"))
            .count();
        assert_ne!(documents, 0, "{line}\n{}", said.stdout);
    }
}

#[test]
fn what_is_pushed_is_what_the_specification_says_as_root() {
    let rbuild = with_files();
    let server = Server::start(Access::Everybody);
    let at = server.address();
    for line in [
        format!("rbuild build -q -t {at}/app:v1 --push --sbom --provenance --annotation a=b ."),
        format!("rbuild build -q -t {at}/app:v2 . && rbuild push -q {at}/app:v2"),
        format!(
            "rbuild build -q -t {at}/any:v1 -f any --platform linux/amd64,linux/arm64 --annotation index:a=b --push ."
        ),
        format!("rbuild build -q -t {at}/docker:v1 -o type=registry,oci-mediatypes=false ."),
        format!("rbuild build -q --cache-to type=registry,ref={at}/cache:v1,mode=max ."),
    ] {
        run(&mut rbuild.shell(&line)).success();
    }
    let said = check(&rbuild, "blobs", server.blobs());
    assert!(said.status.success(), "{}", said.transcript());
    for media_type in [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.config.v1+json",
        "other documents",
    ] {
        assert!(said.stdout.contains(media_type), "{}", said.stdout);
    }
}

#[test]
fn a_document_that_is_not_what_the_specification_says_is_found_as_root() {
    let rbuild = with_files();
    let line = "rbuild build -q -t app:v1 -o type=oci,dest=out,tar=false . && sed -i 's/\"size\":[0-9]*/\"size\":\"1\"/' out/index.json";
    run(&mut rbuild.shell(line)).success();
    let said = check(&rbuild, "layout", ["out"]).failure(1);
    assert!(
        said.stderr.contains("'1' is not of type 'integer'"),
        "{}",
        said.stderr
    );
}
