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
fn a_named_context_is_for_every_platform_or_for_the_one_that_it_names_as_root() {
    let server = Server::start(Access::Everybody);
    let rbuild = rbuild();
    let both = "--platform=linux/amd64,linux/arm64";
    let pushed = format!("{}/base:v1", server.address());
    rbuild
        .write("base/Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY of-$TARGETARCH /arch\n")
        .write("base/of-amd64", "amd64")
        .write("base/of-arm64", "arm64")
        .write("data/file", "for all")
        .write("one/file", "for the others")
        .write("two/file", "for arm64")
        .write(
            "Dockerfile",
            "FROM laid-out AS laid-out-here\nFROM pushed\nCOPY --from=laid-out-here /arch /laid-out\n\
             COPY --from=data file /data\nCOPY --from=per file /per\nCOPY --from=per-image /arch /per-image\n",
        );
    let base = [
        "-q",
        both,
        "-o",
        "type=oci,dest=layout,tar=false",
        "-t",
        &pushed,
    ];
    rbuild
        .run(["build"].iter().chain(&base).chain(&["--push", "base"]))
        .success();
    rbuild.run(["rmi", &pushed]).success();
    let image = format!("docker-image://{pushed}");
    let contexts = [
        "laid-out=oci-layout://layout",
        &format!("pushed={image}"),
        "data=data",
        "per=one",
        "per::linux/arm64=two",
        "per-image=base",
        &format!("per-image::linux/arm64={image}"),
    ];
    let contexts = contexts.map(|it| format!("--build-context={it}"));
    rbuild.write("base/arch", "of a directory");
    let build = || {
        let always = ["build", "--progress=plain", both, "-o", "out", "."];
        let arguments = always
            .into_iter()
            .chain(contexts.iter().map(String::as_str));
        rbuild.run(arguments).success().stderr
    };
    let log = build();
    let loads = |name: &str| {
        log.matches(&format!("[context {name}] load from client\n"))
            .count()
    };
    assert_eq!(
        [loads("data"), loads("per"), loads("per::linux/arm64")],
        [1, 1, 1],
        "{log}"
    );
    for (platform, name, expected) in [
        ("amd64", "arch", "amd64"),
        ("arm64", "arch", "arm64"),
        ("amd64", "laid-out", "amd64"),
        ("arm64", "laid-out", "arm64"),
        ("amd64", "data", "for all"),
        ("arm64", "data", "for all"),
        ("amd64", "per", "for the others"),
        ("arm64", "per", "for arm64"),
        ("amd64", "per-image", "of a directory"),
        ("arm64", "per-image", "arm64"),
    ] {
        let file = rbuild.work().join(format!("out/linux_{platform}/{name}"));
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        assert_eq!(text, expected, "{platform} {name}");
    }
    assert!(
        !build().contains("COPY") || build().contains("CACHED"),
        "{log}"
    );

    // One that has nothing for a platform says so, with the platforms that it has.
    let s390x = [
        "build",
        "--platform=linux/amd64,linux/s390x",
        "-o",
        "out",
        ".",
    ];
    let arguments = s390x.into_iter().chain(contexts.iter().map(String::as_str));
    let said = rbuild.run(arguments).failure(1).stderr;
    assert!(
        said.contains("linux/s390x") && said.contains("linux/arm64"),
        "{said}"
    );
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
