//! Images for other machines, and for several.

use kit::docker_registry::{Access, Server};
use kit::emulation::{Arm64, arm64_program, impossible_program};
use kit::rbuild::{Rbuild, run};

use super::{RBUILD, rbuild};

#[test]
fn several_platforms_are_one_name_here_in_archives_and_in_registries_as_root() {
    let server = Server::start(Access::Everybody);
    let rbuild = rbuild();
    rbuild.write("a", "the same\n");
    rbuild.write(
        "Dockerfile",
        "FROM --platform=$BUILDPLATFORM busybox AS tool\nARG TARGETARCH\nRUN echo built for $TARGETARCH > /out\nFROM scratch\nCOPY a /a\nCOPY --from=tool /out /out\n",
    );
    let name = format!("{}/team/multi:v1", server.address());
    let build = [
        "build",
        "--progress=plain",
        "--platform=linux/amd64,linux/arm64",
        "--metadata-file=meta.json",
        "--push",
        "-t",
        &name,
        ".",
    ];
    let log = rbuild.run(build).success().stderr;
    for once in [
        "[linux/amd64 stage-1 1/2] COPY a /a",
        "[linux/amd64 tool 2/2] RUN echo built",
        "[linux/amd64->arm64 tool 2/2] RUN echo built",
        "[linux/arm64 stage-1 2/2] COPY --from=tool",
    ] {
        assert_eq!(log.matches(once).count(), 1, "{once}\n{log}");
    }
    assert!(
        !log.contains("[linux/arm64 stage-1 1/2]"),
        "what both need is done once\n{log}"
    );

    let raw = format!("skopeo inspect --raw --tls-verify=false docker://{name}");
    let index = run(&mut rbuild.shell(&raw)).success().stdout;
    assert!(
        index.contains("application/vnd.oci.image.index.v1+json"),
        "{index}"
    );
    for architecture in ["amd64", "arm64"] {
        let look = format!(
            "skopeo --override-arch {architecture} copy -q --src-tls-verify=false docker://{name} oci:{architecture}:latest && umoci unpack --image {architecture}:latest b-{architecture} >/dev/null && cat b-{architecture}/rootfs/out"
        );
        let out = run(&mut rbuild.shell(&look)).success().stdout;
        assert_eq!(out, format!("built for {architecture}\n"));
    }
    let metadata = std::fs::read_to_string(rbuild.work().join("meta.json")).unwrap();
    assert!(metadata.contains("containerimage.descriptor"), "{metadata}");

    // One line, which is this machine's image; in archives as in the registry.
    let listed = rbuild.run(["images", "-q", &name]).success().stdout;
    assert_eq!(listed.lines().count(), 1, "{listed}");
    rbuild.run(["tag", &name, "other:v2"]).success();
    rbuild
        .run(["save", "-o", "saved.tar", "other:v2"])
        .success();
    let saved = run(&mut rbuild.shell("skopeo inspect --raw oci-archive:saved.tar:v2")).success();
    assert_eq!(saved.stdout, index);
    let again = format!("{}/team/again:v1", server.address());
    rbuild.run(["tag", "other:v2", &again]).success();
    let pushed = rbuild.run(["push", &again]).success().stdout;
    assert_eq!(
        pushed.matches(": Mounted from team/multi\n").count(),
        3,
        "{pushed}"
    );

    // Elsewhere, FROM takes the one for its platform.
    let elsewhere = Rbuild::new(RBUILD);
    elsewhere.write("Dockerfile", format!("FROM {name}\nCOPY Dockerfile /x\n"));
    for architecture in ["amd64", "arm64"] {
        let platform = format!("--platform=linux/{architecture}");
        elsewhere
            .run(["build", "-q", &platform, "-t", "out", "."])
            .success();
        let shown = ["image", "inspect", "-f", "{{.Architecture}}", "out"];
        assert_eq!(
            elsewhere.run(shown).success().stdout,
            format!("{architecture}\n")
        );
    }
    elsewhere.write(
        "Dockerfile",
        format!("FROM --platform=linux/s390x {name}\n"),
    );
    let log = elsewhere.run(["build", "."]).failure(1).stderr;
    let reason = "no matching manifest for linux/s390x";
    assert!(
        log.contains(reason) && log.contains("linux/amd64, linux/arm64"),
        "{log}"
    );

    for name in [name.as_str(), "other:v2", &again] {
        rbuild.run(["rmi", name]).success();
    }
    let left = rbuild.run(["images", "-q"]).success().stdout;
    assert_eq!(left.lines().count(), 1, "busybox alone: {left}");
}

#[test]
fn run_of_another_processor_is_emulated_where_the_kernel_knows_how_as_root() {
    let _emulation = Arm64::register().unwrap();
    let rbuild = Rbuild::new(RBUILD);
    rbuild.write("hello", arm64_program("hello from arm64\n"));
    rbuild.write(
        "Dockerfile",
        "FROM scratch\nCOPY --chmod=755 hello /hello\nRUN [\"/hello\"]\nCMD [\"/hello\"]\n",
    );
    let build = [
        "build",
        "--progress=plain",
        "--platform=linux/arm64",
        "-t",
        "hello",
        ".",
    ];
    let log = rbuild.run(build).success().stderr;
    assert!(log.contains("hello from arm64"), "{log}");
    let ran = rbuild.run(["run", "--rm", "hello"]).success();
    assert_eq!(ran.stdout, "hello from arm64\n");
}

#[test]
fn run_of_another_processor_says_what_is_missing_as_root() {
    let rbuild = Rbuild::new(RBUILD);
    rbuild.write("hello", impossible_program());
    rbuild.write(
        "Dockerfile",
        "FROM scratch\nCOPY --chmod=755 hello /hello\nRUN [\"/hello\"]\n",
    );
    let log = rbuild.run(["build", "."]).failure(1).stderr;
    for expected in [
        "process \"/hello\" did not start: it is for linux/ppc, this machine is linux/",
        "no emulator is registered",
        "hint: `apt-get install qemu-user-static binfmt-support`",
    ] {
        assert!(log.contains(expected), "{log}");
    }
}
