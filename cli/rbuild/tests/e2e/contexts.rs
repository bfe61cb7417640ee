//! Contexts that are no directory: tars, addresses, repositories, and contexts that have a name.

use kit::rbuild::{Output, Rbuild, run};
use kit::repository::{Daemon, Repository};
use kit::web::{Page, Web};

use super::{builds::verdicts, rbuild};

/// Copies all of its context and shows it.
const SHOWS_ALL: &str =
    "FROM busybox\nCOPY . /x\nCMD [\"sh\", \"-c\", \"cd /x && find . -type f | sort\"]\n";

fn shell(rbuild: &Rbuild, line: &str) -> Output {
    run(&mut rbuild.shell(line))
}

/// What the image `it` shows.
fn shown(rbuild: &Rbuild) -> String {
    rbuild.run(["run", "--rm", "it"]).success().stdout
}

/// Builds the image `it` from `context` and gives the plain log.
fn build(rbuild: &Rbuild, arguments: &[&str]) -> String {
    let always = ["build", "--progress=plain", "-t", "it"];
    rbuild.run(always.iter().chain(arguments)).success().stderr
}

#[test]
fn a_tar_on_standard_input_is_the_context_however_it_is_packed_as_root() {
    let rbuild = rbuild();
    rbuild
        .write("in/Dockerfile", SHOWS_ALL)
        .write("in/deep/file", "text\n")
        .write("in/.dockerignore", "deep\n");
    // Whose files they are says the tar in vain: in a context they are root's (G65).
    let tar = "tar -C in --owner=33 --group=44 -c .";
    let pack = |by: &str| format!("{tar} {by} | rbuild build --progress=plain -t it -");

    let log = shell(&rbuild, &pack("")).success().stderr;
    assert!(
        log.contains(" [internal] load remote build context\n"),
        "{log}"
    );
    assert_eq!(verdicts(&log).1, ["COPY . /x"]);
    assert_eq!(
        shown(&rbuild),
        "./.dockerignore\n./Dockerfile\n./deep/file\n"
    );
    let owner = ["run", "--rm", "it", "stat", "-c", "%u:%g", "/x/deep/file"];
    assert_eq!(rbuild.run(owner).success().stdout, "0:0\n");

    for packer in ["", "| gzip", "| bzip2", "| xz", "| zstd -q"] {
        let (cached, done) = verdicts(&shell(&rbuild, &pack(packer)).success().stderr);
        assert_eq!(
            (cached, done),
            (vec!["COPY . /x".to_owned()], vec![]),
            "{packer}"
        );
    }
    // Nor does it matter that it is a tar.
    rbuild.write("in/.dockerignore", "deep\n#\n");
    std::fs::remove_file(rbuild.work().join("in/.dockerignore")).unwrap();
    let tar = shell(&rbuild, &pack("| gzip")).success().stderr;
    assert_eq!(verdicts(&tar).1, ["COPY . /x"]);
    assert_eq!(verdicts(&build(&rbuild, &["in"])).0, ["COPY . /x"]);
}

#[test]
fn a_dockerfile_in_a_tar_may_have_another_name_and_one_on_standard_input_has_no_files_as_root() {
    let rbuild = rbuild();
    rbuild
        .write("in/sub/Other", SHOWS_ALL)
        .write("Plain", "FROM busybox\nCMD [\"echo\", \"plain\"]\n")
        .write("Copies", SHOWS_ALL);
    let named = "tar -C in -cz . | rbuild build -q -t it -f sub/Other -";
    shell(&rbuild, named).success();
    assert_eq!(shown(&rbuild), "./sub/Other\n");

    shell(&rbuild, "rbuild build -q -t it - < Plain").success();
    assert_eq!(shown(&rbuild), "plain\n");
    shell(&rbuild, "rbuild build -q -t it - < Copies").success();
    assert_eq!(shown(&rbuild), "");
    shell(&rbuild, "rbuild build -q -t it -f - in < Copies").success();
    assert_eq!(shown(&rbuild), "./sub/Other\n");
}

#[test]
fn a_tar_of_the_web_is_fetched_again_only_when_it_changed_as_root() {
    let rbuild = rbuild();
    let web = Web::start().unwrap();
    rbuild
        .write("in/Dockerfile", SHOWS_ALL)
        .write("in/one", "1");
    let tar = || {
        shell(&rbuild, "tar -C in -czf in.tgz .").success();
        std::fs::read(rbuild.work().join("in.tgz")).unwrap()
    };
    web.put("/in.tgz", Page::new(tar()).etag("\"1\""));
    let url = web.url("/in.tgz");
    assert_eq!(verdicts(&build(&rbuild, &[&url])).1, ["COPY . /x"]);
    assert_eq!(shown(&rbuild), "./Dockerfile\n./one\n");
    assert_eq!(verdicts(&build(&rbuild, &[&url])).0, ["COPY . /x"]);

    rbuild.write("in/two", "2");
    web.put("/in.tgz", Page::new(tar()).etag("\"2\""));
    assert_eq!(verdicts(&build(&rbuild, &[&url])).1, ["COPY . /x"]);
    assert_eq!(shown(&rbuild), "./Dockerfile\n./one\n./two\n");
    let statuses: Vec<u16> = web.asked().iter().map(|it| it.status).collect();
    assert_eq!(statuses, [200, 304, 200]);
}

#[test]
fn a_text_of_the_web_is_a_dockerfile_as_root() {
    let rbuild = rbuild();
    let web = Web::start().unwrap();
    web.put("/text", Page::new(SHOWS_ALL));
    let url = web.url("/text");
    build(&rbuild, &[&url]);
    assert_eq!(shown(&rbuild), "");
    rbuild
        .write("in/file", "")
        .write("in/Dockerfile", "FROM nowhere");
    build(&rbuild, &["-f", &url, "in"]);
    assert_eq!(shown(&rbuild), "./Dockerfile\n./file\n");
    let two = rbuild.run(["build", "-f", "Other", &url]).failure(1).stderr;
    let why = format!(
        "ERROR: failed to build: ambiguous Dockerfile source: both {url} and flag correspond to Dockerfiles\n"
    );
    assert!(two.ends_with(&why), "{two}");
}

#[test]
fn a_repository_is_the_context_as_root() {
    let rbuild = rbuild();
    let served = rbuild.home().join("served");
    let repository = Repository::create(&served.join("project.git")).unwrap();
    repository.write("Dockerfile", SHOWS_ALL).unwrap();
    repository.write("sub/Dockerfile", SHOWS_ALL).unwrap();
    repository.write("sub/only", "").unwrap();
    repository.write(".dockerignore", "sub\n").unwrap();
    repository.commit("one").unwrap();
    repository.git(&["tag", "v1"]).unwrap();
    repository.write("sub/later", "").unwrap();
    repository.commit("two").unwrap();
    let daemon = Daemon::start(&served).unwrap();
    let url = |part: &str| format!("{}{part}", daemon.url("project.git"));

    let log = build(&rbuild, &[&url("#v1:sub")]);
    let name = format!(" [internal] load git source {}\n", url("#v1:sub"));
    assert!(log.contains(&name), "{log}");
    assert_eq!(shown(&rbuild), "./Dockerfile\n./only\n");
    // The same files by another name.
    let log = build(&rbuild, &[&url("?tag=v1&subdir=sub")]);
    assert_eq!(verdicts(&log).0, ["COPY . /x"]);

    build(&rbuild, &[&url("")]);
    let all = "./.dockerignore\n./Dockerfile\n./sub/Dockerfile\n./sub/later\n./sub/only\n";
    assert_eq!(shown(&rbuild), all);
    build(&rbuild, &["-f", "sub/Dockerfile", &url("#main")]);
    assert_eq!(shown(&rbuild), all);
    build(
        &rbuild,
        &[
            "--build-arg",
            "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1",
            &url("#v1"),
        ],
    );
    assert!(shown(&rbuild).contains("./.git/HEAD\n"));

    // What was fetched is kept, and goes like everything else that is kept.
    let mirrors = [
        "builder",
        "prune",
        "-af",
        "--filter",
        "type=source.git.checkout",
    ];
    let gone = rbuild.run(mirrors).success().stdout;
    assert_eq!(
        gone.lines().count(),
        3,
        "a heading, one mirror, a total: {gone}"
    );
    build(&rbuild, &[&url("#:sub")]);
    assert_eq!(shown(&rbuild), "./Dockerfile\n./later\n./only\n");

    for (part, why) in [
        ("#v2", "does not contain ref v2"),
        ("#v1:none", "\"/none\" is no directory of the repository"),
        (
            "?depth=1",
            "names nothing that can be fetched: unexpected query \"depth\"",
        ),
        ("#-x", "invalid git reference \"-x\""),
    ] {
        let said = rbuild.run(["build", &url(part)]).failure(1).stderr;
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("ERROR: failed to build: "), "{said}");
        assert!(last.contains(why), "{said}");
    }
}

#[test]
fn a_repository_that_links_outside_shows_nothing_of_this_machine_as_root() {
    let rbuild = rbuild();
    let served = rbuild.home().join("served");
    let repository = Repository::create(&served.join("evil.git")).unwrap();
    repository.link("Dockerfile", "/etc/passwd").unwrap();
    repository.link("sub", "/etc").unwrap();
    repository.commit("one").unwrap();
    let daemon = Daemon::start(&served).unwrap();
    let url = daemon.url("evil.git");
    for arguments in [vec!["build", &url], vec!["build", "-f", "sub/passwd", &url]] {
        let said = rbuild.run(arguments).failure(1).stderr;
        assert!(said.contains("failed to read dockerfile: open "), "{said}");
        assert!(!said.contains("root:"), "{said}");
    }
    let below = format!("{url}#:sub");
    let said = rbuild.run(["build", &below]).failure(1).stderr;
    assert!(
        said.contains("\"/sub\" is no directory of the repository"),
        "{said}"
    );
}

#[test]
fn a_tar_that_links_outside_shows_nothing_of_this_machine_as_root() {
    let rbuild = rbuild();
    let web = Web::start().unwrap();
    rbuild.write("canary", "FROM canary-of-the-machine\n");
    let canary = rbuild.work().join("canary").display().to_string();
    let climbing = format!("../../../../../../../../../..{canary}");
    rbuild.write("folder/passwd", "");
    for (name, to) in [
        ("Dockerfile", canary.as_str()),
        ("Dockerfile", &climbing),
        (".dockerignore", &canary),
        (".dockerignore", &climbing),
        ("Dockerfile.dockerignore", &canary),
        ("sub", rbuild.work().to_str().unwrap()),
    ] {
        let ordinary = match name {
            "Dockerfile" => "",
            _ => "echo FROM busybox > in/Dockerfile; echo 'COPY . /x' >> in/Dockerfile;",
        };
        let make =
            format!("rm -rf in; mkdir in; {ordinary} ln -s {to} in/{name}; tar -C in -cf in.tar .");
        shell(&rbuild, &make).success();
        web.put(
            "/in.tar",
            Page::new(std::fs::read(rbuild.work().join("in.tar")).unwrap()),
        );
        let url = web.url("/in.tar");
        let file = match name {
            "sub" => "-f sub/canary",
            _ => "",
        };
        for line in [
            format!("rbuild build --progress=plain {file} - < in.tar"),
            format!("rbuild build --progress=plain {file} {url}"),
            format!("rbuild build --call=check {file} - < in.tar"),
        ] {
            let output = shell(&rbuild, &line);
            let text = output.transcript();
            assert!(
                !text.contains("canary-of-the-machine"),
                "{name} -> {to}: {text}"
            );
            if matches!(name, "Dockerfile" | "sub") {
                let said = output.failure(1).stderr;
                assert!(said.contains("failed to read dockerfile: open "), "{said}");
            }
        }
    }
}

#[test]
fn a_named_context_stands_for_stages_and_images_as_root() {
    let rbuild = rbuild();
    let served = rbuild.home().join("served");
    let repository = Repository::create(&served.join("tools.git")).unwrap();
    repository.write("bin/tool", "of git\n").unwrap();
    repository.commit("one").unwrap();
    let daemon = Daemon::start(&served).unwrap();
    let web = Web::start().unwrap();
    web.put("/release.txt", Page::new("of the web\n"));
    let dockerfile = "\
FROM nowhere.example/alpine AS missing
FROM missing AS tools
RUN false
FROM alpine
COPY --from=tools bin/tool /1
COPY --from=release release.txt /2
COPY --from=data . /3/
RUN --mount=from=data,target=/m ls -A /m > /4
CMD [\"sh\", \"-c\", \"cat /1 /2; ls -A /3; cat /4\"]
";
    rbuild
        .write("Dockerfile", dockerfile)
        .write("data/.dockerignore", "skip\n.dockerignore\n")
        .write("data/skip", "")
        .write("data/keep", "");
    let tools = format!("tools={}#main", daemon.url("tools.git"));
    let release = format!("release={}", web.url("/release.txt"));
    let contexts = [
        "--build-context=docker.io/library/alpine:latest=docker-image://busybox",
        "--build-context=data=data",
        "--build-context",
        &tools,
        "--build-context",
        &release,
        ".",
    ];
    let log = build(&rbuild, &contexts);
    assert_eq!(shown(&rbuild), "of git\nof the web\nkeep\nkeep\n");
    for name in [
        " [context alpine] docker.io/library/busybox:latest",
        " [context data] load from client",
        &format!(" [context tools] {}#main", daemon.url("tools.git")),
        &format!(" [context release] {}", web.url("/release.txt")),
    ] {
        assert!(log.lines().any(|it| it.contains(name)), "{name} in {log}");
    }
    let rebuilt = || {
        let (_, done) = verdicts(&build(&rbuild, &contexts));
        let of_client = |it: &String| it == "load .dockerignore" || it == "load from client";
        done.into_iter().filter(|it| !of_client(it)).count()
    };
    assert_eq!(rebuilt(), 0);
    // What is ignored does not count; what is not does.
    rbuild.write("data/skip", "changed");
    assert_eq!(rebuilt(), 0);
    rbuild.write("data/keep", "changed");
    assert_eq!(rebuilt(), 2);
}

#[test]
fn a_directory_or_a_layout_is_something_to_build_on_as_root() {
    let rbuild = rbuild();
    let dockerfile = "FROM base\nRUN echo more > /more\nCMD [\"cat\", \"/more\"]\n";
    rbuild.write("Dockerfile", dockerfile);
    let unpack = "rbuild save busybox -o b.tar && mkdir layout tree && tar -C layout -xf b.tar && rbuild rmi busybox && \
        tar -C tree -xf layout/blobs/sha256/$(ls -S layout/blobs/sha256 | head -n 1)";
    shell(&rbuild, unpack).success();
    for context in [
        "base=oci-layout://layout",
        "base=oci-layout://layout:latest",
        "base=tree",
    ] {
        let log = build(&rbuild, &["--build-context", context, "."]);
        assert!(log.contains(" [context base] "), "{log}");
        assert_eq!(shown(&rbuild), "more\n", "{context}");
        let (cached, _) = verdicts(&build(&rbuild, &["--build-context", context, "."]));
        assert!(
            cached.contains(&"RUN echo more > /more".to_owned()),
            "{cached:?}"
        );
    }
    let names = rbuild.run(["images", "--format", "{{.Repository}}"]);
    assert!(
        !names.success().stdout.contains("busybox"),
        "a layout's names are not taken over"
    );
    for (context, why) in [
        (
            "base=oci-layout://layout:v9",
            "no image of the layout has the tag `v9`",
        ),
        (
            "base=oci-layout://tree",
            "this is no OCI layout: it has no `index.json`",
        ),
        ("base=oci-layout://none", "cannot open `none"),
    ] {
        let said = rbuild.run(["build", "--build-context", context, "."]);
        let said = said.failure(1).stderr;
        assert!(said.contains(why), "{said}");
        assert!(said.contains("Dockerfile:1\n"), "{said}");
    }
}
