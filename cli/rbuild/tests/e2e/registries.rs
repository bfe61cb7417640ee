//! Images from registries and into them, with the reference registry on the other side.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use kit::docker_registry::{Access, Server};
use kit::proxy::{Proxy, What};
use kit::rbuild::{Rbuild, finish, run, signal};
use kit::web::{Page, Web};
use rustix::process::Signal;

use super::{RBUILD, builds::verdicts, rbuild};

/// What was asked of the registry for images since `before`, without the pings.
fn asked(server: &Server, before: usize) -> Vec<String> {
    let requests = server.requests().into_iter().skip(before);
    requests.filter(|it| !it.ends_with(" /v2/")).collect()
}

/// A registry with busybox as `base:v1`, and an rbuild that has nothing.
fn served() -> (Server, Rbuild, String) {
    let server = Server::start(Access::Everybody);
    let base = format!("{}/lib/base:v1", server.address());
    let owner = rbuild();
    owner.run(["tag", "busybox", &base]).success();
    owner.run(["push", "-q", &base]).success();
    (server, Rbuild::new(RBUILD), base)
}

#[test]
fn a_base_comes_from_its_registry_once_and_only_where_a_step_needs_it_as_root() {
    let (server, rbuild, base) = served();
    let dockerfile = format!(
        "FROM {base} AS one\nRUN echo hello > /a\nFROM one\nCOPY --from={base} /bin/cat /c\nRUN --mount=from={base},target=/m ls /m/bin/sh && cat /a\n"
    );
    rbuild.write("Dockerfile", dockerfile);
    let build = |more: &[&str]| {
        let line = ["build", "--progress=plain", "-t", "out", "."];
        let built = rbuild.run(line.iter().chain(more)).success();
        built.stderr
    };

    let before = server.requests().len();
    let log = build(&[]);
    for expected in [
        format!("[internal] load metadata for {base}"),
        format!("[one 1/2] FROM {base}@sha256:"),
        format!("resolve {base}@sha256:"),
        "extracting sha256:".to_owned(),
    ] {
        assert!(log.contains(&expected), "{expected}\n{log}");
    }
    let first = asked(&server, before);
    assert_eq!(first.len(), 3, "a manifest, a config, a layer: {first:?}");

    let before = server.requests().len();
    let (cached, ran) = verdicts(&build(&[]));
    assert_eq!((cached.len(), ran.len()), (3, 0));
    assert_eq!(asked(&server, before), ["HEAD /v2/lib/base/manifests/v1"]);

    let before = server.requests().len();
    build(&["--offline"]);
    assert_eq!(asked(&server, before), [""; 0]);

    let log = build(&[]);
    let pinned = log.split("FROM ").nth(1).unwrap();
    let pinned = pinned.split_whitespace().next().unwrap();
    rbuild.write(
        "Dockerfile",
        format!("FROM {pinned}\nRUN echo hello > /a\n"),
    );
    let before = server.requests().len();
    let (cached, _) = verdicts(&build(&[]));
    assert_eq!(cached.len(), 1);
    assert_eq!(asked(&server, before), [""; 0]);
}

#[test]
fn a_base_below_cached_steps_is_not_fetched_as_root() {
    let (server, rbuild, base) = served();
    // Two names for the same image: the layers come with the first.
    let other = format!("{}/lib/other:v1", server.address());
    rbuild.run(["pull", "-q", &base]).success();
    rbuild.run(["tag", &base, &other]).success();
    rbuild.run(["push", "-q", &other]).success();
    rbuild.run(["rmi", "-f", &base, &other]).success();
    rbuild.write("Dockerfile", format!("FROM {base}\nRUN echo hello > /a\n"));
    rbuild.run(["build", "-q", "."]).success();
    rbuild.write("Dockerfile", format!("FROM {other}\nRUN echo hello > /a\n"));
    let before = server.requests().len();
    rbuild.run(["build", "-q", "."]).success();
    let asked = asked(&server, before);
    assert!(
        asked.iter().filter(|it| it.contains("/blobs/")).count() <= 1,
        "the config at most: {asked:?}"
    );
}

#[test]
fn pull_asks_again_and_without_it_the_stores_own_image_counts_as_root() {
    let (server, rbuild, base) = served();
    rbuild.run(["pull", "-q", &base]).success();
    rbuild.write("Dockerfile", format!("FROM {base}\nRUN echo hello > /a\n"));
    let before = server.requests().len();
    rbuild.run(["build", "-q", "."]).success();
    assert_eq!(asked(&server, before), [""; 0]);
    rbuild.run(["build", "-q", "--pull", "."]).success();
    assert_eq!(asked(&server, before), ["HEAD /v2/lib/base/manifests/v1"]);
}

#[test]
fn run_brings_in_what_is_missing_as_root() {
    let (_server, rbuild, base) = served();
    let never = rbuild
        .run(["run", "--rm", "--pull=never", &base, "echo", "hello"])
        .failure(125);
    assert!(
        never
            .stderr
            .contains(&format!("Unable to find image '{base}' locally")),
        "{}",
        never.stderr
    );
    let ran = rbuild
        .run(["run", "--rm", &base, "echo", "hello"])
        .success();
    assert_eq!(ran.stdout, "hello\n");
    for expected in [
        format!("Unable to find image '{base}' locally\nv1: Pulling from "),
        format!("Status: Downloaded newer image for {base}\n"),
    ] {
        assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    }
    let again = rbuild
        .run(["run", "--rm", &base, "echo", "hello"])
        .success();
    assert_eq!(again.stderr, "");
    let always = rbuild
        .run(["run", "--rm", "--pull=always", &base, "echo", "hello"])
        .success();
    assert!(
        always.stderr.contains("Image is up to date"),
        "{}",
        always.stderr
    );
}

#[test]
fn what_is_pushed_is_sent_once_and_others_read_it_as_root() {
    let (server, _, base) = served();
    let rbuild = Rbuild::new(RBUILD);
    rbuild.write("Dockerfile", format!("FROM {base}\nRUN echo hello > /a\n"));
    let name = format!("{}/team/app", server.address());
    let build = [
        "build",
        "-q",
        "-t",
        &format!("{name}:v1"),
        "-t",
        &format!("{name}:v2"),
        ".",
    ];
    rbuild.run(build).success();
    let push = |args: &[&str]| rbuild.run(["push"].iter().chain(args)).success().stdout;

    let said = push(&[&format!("{name}:v1")]);
    assert!(
        said.starts_with(&format!("The push refers to repository [{name}]\n")),
        "{said}"
    );
    assert_eq!(
        said.matches(": Mounted from lib/base\n").count(),
        1,
        "{said}"
    );
    assert_eq!(said.matches(": Pushed\n").count(), 1, "{said}");
    assert!(said.contains("\nv1: digest: sha256:"), "{said}");

    let before = server.requests().len();
    let again = push(&["-a", &name]);
    assert_eq!(
        again.matches(": Layer already exists\n").count(),
        4,
        "{again}"
    );
    assert!(
        again.contains("\nv1: digest: ") && again.contains("\nv2: digest: "),
        "{again}"
    );
    let sent = asked(&server, before);
    assert!(
        sent.iter()
            .all(|it| it.starts_with("HEAD ") || it.contains("/manifests/")),
        "{sent:?}"
    );
    let looked = format!("skopeo inspect --tls-verify=false --config docker://{name}:v2");
    let looked = run(&mut rbuild.shell(&looked)).success().stdout;
    assert!(looked.contains("RUN /bin/sh -c echo hello"), "{looked}");
    let copied = format!("skopeo copy -q --src-tls-verify=false docker://{name}:v2 dir:copied");
    run(&mut rbuild.shell(&copied)).success();

    let missing = rbuild
        .run(["push", &format!("{name}:v3")])
        .failure(1)
        .stderr;
    assert!(
        missing.contains("An image does not exist locally with the tag"),
        "{missing}"
    );
}

#[test]
fn a_login_is_kept_used_and_forgotten_as_root() {
    let server = Server::start(Access::Somebody);
    let rbuild = rbuild();
    let name = format!("{}/app:v1", server.address());
    rbuild.run(["tag", "busybox", &name]).success();
    let config = rbuild.home().join("docker");
    let with = |args: &[&str]| {
        let mut command = rbuild.command(args);
        command.env("DOCKER_CONFIG", &config);
        command
    };
    let login = |password: &str| {
        let line = [
            "login",
            "-u",
            "somebody",
            "--password-stdin",
            server.address(),
        ];
        let mut child = with(&line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{password}").unwrap();
        drop(stdin);
        finish(child).unwrap()
    };

    let refused = run(&mut with(&["push", &name])).failure(1).stderr;
    assert!(
        refused.contains("denied") && refused.contains("rbuild login"),
        "{refused}"
    );
    let wrong = login("wrong").failure(1);
    assert!(
        wrong.stderr.contains("refuses the credentials"),
        "{}",
        wrong.stderr
    );
    assert!(!config.exists());

    let right = login("secret").success();
    assert_eq!(right.stdout, "Login Succeeded\n");
    assert!(
        right.stderr.contains("stored unencrypted in"),
        "{}",
        right.stderr
    );
    let file = config.join("config.json");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // base64 of `somebody:secret`
    assert!(
        fs::read_to_string(&file)
            .unwrap()
            .contains("c29tZWJvZHk6c2VjcmV0")
    );
    run(&mut with(&["push", "-q", &name])).success();

    let forgotten = run(&mut with(&["logout", server.address()]))
        .success()
        .stdout;
    assert_eq!(
        forgotten,
        format!("Removing login credentials for {}\n", server.address())
    );
    run(&mut with(&["push", "-q", &name])).failure(1);
    let again = run(&mut with(&["logout", server.address()]))
        .success()
        .stdout;
    assert_eq!(again, format!("Not logged in to {}\n", server.address()));

    // A helper keeps them in a file of its own; docker's file says only that there is something.
    let bin = rbuild.home().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let helper = bin.join("docker-credential-shelf");
    let shelf = rbuild.home().join("shelf");
    let script = format!(
        "#!/bin/sh\nexec 2>&1\ncase $1 in\nstore) cat > {0} ;;\nget) cat > /dev/null; cat {0} 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }} ;;\nerase) cat > /dev/null; rm {0} ;;\nesac\n",
        shelf.display()
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&file, "{\"credsStore\": \"shelf\", \"kept\": true}").unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let helped = |command: &mut Command| {
        command
            .env("PATH", &path)
            .env("DOCKER_CONFIG", &config)
            .output()
    };
    let secret = rbuild.home().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    let mut command = rbuild.command([
        "login",
        "-u",
        "somebody",
        "--password-stdin",
        server.address(),
    ]);
    let output = helped(command.stdin(fs::File::open(&secret).unwrap())).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let kept = fs::read_to_string(&file).unwrap();
    assert!(
        kept.contains("\"kept\": true") && !kept.contains("auth\""),
        "{kept}"
    );
    assert!(
        fs::read_to_string(&shelf)
            .unwrap()
            .contains("\"Secret\":\"secret\"")
    );
    assert!(
        helped(&mut rbuild.command(["push", "-q", &name]))
            .unwrap()
            .status
            .success()
    );
    assert!(
        helped(&mut rbuild.command(["logout", server.address()]))
            .unwrap()
            .status
            .success()
    );
    assert!(!shelf.exists());
}

/// What a tree looks like from inside: names, modes, owners, links and contents.
const LOOK: &str = "cd /many && find . -exec stat -c '%n %A %u:%g %h %Y' {} + | sort | sha256sum; cat */* | sha256sum; ls | wc -l";

#[test]
fn a_large_layer_is_not_unpacked_and_is_a_layer_all_the_same_as_root() {
    let (server, owner, base) = served();
    let many = format!("{}/lib/many:v1", server.address());
    let dockerfile = format!(
        "FROM {base}\nRUN mkdir -p /many && cd /many && for d in $(seq 30); do mkdir $d; for f in $(seq 40); do echo $d $f > $d/$f; done; done; \
         chown 7:8 1/1 2; chmod 4711 1/2; ln 1/3 2/three; ln -s ../1 3/link; touch -d @1000000 4 5/1\nRUN rm -r /many/30 /many/29/1; echo more > /many/1/1\n"
    );
    owner.write("Dockerfile", dockerfile);
    let words = ["build", "-q", "--network=none", "-t", &many, "--push", "."];
    owner.run(words).success();
    let look = |rbuild: &Rbuild| {
        rbuild
            .run(["run", "--rm", &many, "sh", "-c", LOOK])
            .success()
    };
    let seen = look(&owner).stdout;
    assert_eq!(seen.lines().last(), Some("29"), "{seen}");

    let rbuild = Rbuild::new(RBUILD);
    rbuild.run(["pull", "-q", &many]).success();
    let packed = |rbuild: &Rbuild| {
        let layers = fs::read_dir(rbuild.root().join("snapshots")).unwrap();
        let layers = layers.map(|it| it.unwrap().path());
        let (packed, other): (Vec<_>, Vec<_>) = layers.partition(|it| it.join("index").is_file());
        assert!(
            packed
                .iter()
                .all(|it| it.join("tar").is_file() && !it.join("fs").exists())
        );
        assert!(other.iter().all(|it| it.join("fs").is_dir()));
        packed.len()
    };
    assert_eq!(packed(&rbuild), 1);
    assert_eq!(look(&rbuild).stdout, seen);

    // A step on top changes what is in it; what is sent then is what came, and one layer more.
    let dockerfile = format!(
        "FROM {many}\nRUN cd /many && echo new > 3/1 && mv 4 four && rm -r 5 && ls four | wc -l\nCOPY --from={many} /many/1 /copied\n"
    );
    rbuild.write("Dockerfile", dockerfile);
    let next = format!("{}/lib/next:v1", server.address());
    let before = server.requests().len();
    let words = ["build", "-q", "--network=none", "-t", &next, "--push", "."];
    rbuild.run(words).success();
    let sent = asked(&server, before);
    let sent = sent
        .iter()
        .filter(|it| it.starts_with("PUT ") && it.contains("/blobs/"));
    assert_eq!(
        sent.count(),
        3,
        "two layers and a config: {:?}",
        asked(&server, before)
    );
    let script = "test $(ls /many/four | wc -l) = 40 && ! test -e /many/5 && cat /many/3/1 /copied/1 && stat -c '%a %u:%g' /copied/2 /many/1/1";
    let output = rbuild
        .run(["run", "--rm", &next, "sh", "-c", script])
        .success();
    assert_eq!(output.stdout, "new\nmore\n4711 0:0\n644 7:8\n");

    rbuild.run(["store", "verify"]).success();
    // Saved and loaded elsewhere it is the same, without its blobs too.
    let saved = rbuild.home().join("saved.tar");
    rbuild
        .run(["save", "-o", saved.to_str().unwrap(), &many])
        .success();
    let third = Rbuild::new(RBUILD);
    third
        .run(["load", "-q", "-i", saved.to_str().unwrap()])
        .success();
    assert_eq!(packed(&third), 1);
    assert_eq!(look(&third).stdout, seen);
}

#[test]
fn a_pull_and_a_push_are_told_in_dockers_words_as_root() {
    let server = Server::start(Access::Everybody);
    let rbuild = rbuild();
    rbuild.write("Dockerfile", "FROM busybox\nRUN echo hello > /a\n");
    let name = format!("{}/team/app", server.address());
    let build = ["build", "-q", "-t", &name, "."];
    rbuild.run(build).success();
    let said = |output: &str| output.replace(server.address(), "REGISTRY");
    let pushed = said(&rbuild.run(["push", &name]).success().stdout);
    let lines: Vec<&str> = pushed.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "Using default tag: latest",
            "The push refers to repository [REGISTRY/team/app]"
        ]
    );
    assert!(
        lines.last().unwrap().starts_with("latest: digest: sha256:"),
        "{pushed}"
    );

    let elsewhere = Rbuild::new(RBUILD);
    let pulled = said(&elsewhere.run(["pull", &name]).success().stdout);
    let lines: Vec<&str> = pulled.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "Using default tag: latest",
            "latest: Pulling from REGISTRY/team/app"
        ]
    );
    for state in [
        "Pulling fs layer",
        "Verifying Checksum",
        "Download complete",
        "Extracting",
        "Pull complete",
    ] {
        assert_eq!(pulled.matches(state).count(), 2, "{state}\n{pulled}");
    }
    let [.., digest, status, last] = lines[..] else {
        panic!("{pulled}")
    };
    assert!(digest.starts_with("Digest: sha256:"), "{digest}");
    assert_eq!(
        [status, last],
        [
            "Status: Downloaded newer image for REGISTRY/team/app:latest",
            "REGISTRY/team/app:latest"
        ]
    );

    let digest = digest.strip_prefix("Digest: ").unwrap();
    let pinned = format!("{name}@{digest}");
    let again = said(&elsewhere.run(["pull", &pinned]).success().stdout);
    let expected = format!(
        "REGISTRY/team/app@{digest}: Pulling from REGISTRY/team/app\nDigest: {digest}\nStatus: Image is up to date for REGISTRY/team/app@{digest}\nREGISTRY/team/app@{digest}\n"
    );
    assert_eq!(again, expected);
    let quiet = said(&elsewhere.run(["pull", "-q", &name]).success().stdout);
    assert_eq!(quiet, "REGISTRY/team/app:latest\n");
}

#[test]
fn all_tags_of_a_repository_are_pulled_and_a_digest_is_pushed_without_one_as_root() {
    let (server, rbuild, base) = served();
    let name = base.strip_suffix(":v1").unwrap();
    rbuild.run(["pull", "-q", &base]).success();
    rbuild.run(["tag", &base, &format!("{name}:v2")]).success();
    rbuild.run(["push", "-q", "-a", name]).success();

    let elsewhere = Rbuild::new(RBUILD);
    let pulled = elsewhere.run(["pull", "-a", name]).success().stdout;
    for line in [
        format!("v1: Pulling from {name}\n"),
        format!("v2: Pulling from {name}\n"),
        format!("Status: Downloaded newer image for {name}\n{name}\n"),
    ] {
        assert_eq!(pulled.matches(&line).count(), 1, "{line}\n{pulled}");
    }
    let listed = ["images", "--format", "{{.Tag}}", name];
    assert_eq!(elsewhere.run(listed).success().stdout, "v1\nv2\n");
    let again = elsewhere.run(["pull", "-a", name]).success().stdout;
    assert!(again.contains(&format!("Status: Image is up to date for {name}\n")));
    let both = elsewhere.run(["pull", "-a", &base]).failure(125).stderr;
    assert_eq!(both, "error: tag can't be used with --all-tags/-a\n");
    let none = format!("{}/no/such", server.address());
    let none = elsewhere.run(["pull", "-a", &none]).failure(1).stderr;
    assert!(none.contains("/no/such` not found"), "{none}");

    let digest = pulled.split("Digest: ").nth(1).unwrap();
    let digest = digest.lines().next().unwrap();
    let pinned = format!("{}/other/place@{digest}", server.address());
    let pushed = elsewhere.run(["push", &pinned]).success().stdout;
    assert!(
        pushed.contains(&format!("\n{digest}: digest: {digest} size: ")),
        "{pushed}"
    );
    let look = format!("skopeo inspect --raw --tls-verify=false docker://{pinned}");
    let looked = run(&mut elsewhere.shell(&look)).success().stdout;
    assert!(looked.contains("schemaVersion"), "{looked}");
    let tags = format!(
        "skopeo list-tags --tls-verify=false docker://{}/other/place",
        server.address()
    );
    run(&mut elsewhere.shell(&tags)).failure(1);
    let unknown = format!("{}/other/place@sha256:{}", server.address(), "0".repeat(64));
    let missing = elsewhere.run(["push", &unknown]).failure(1).stderr;
    assert!(
        missing.contains("An image does not exist locally with the digest"),
        "{missing}"
    );
}

#[test]
fn a_search_shows_what_the_registry_finds_as_root() {
    let rbuild = Rbuild::new(RBUILD);
    let hub = Web::start().unwrap();
    let answer = r#"{"num_results":3,"query":"box","results":[
        {"name":"some/box","description":"A box\nof two lines, of which one is so long that nobody reads it","star_count":3,"is_official":false,"is_automated":false},
        {"name":"busybox","description":"Busybox base image.","star_count":3300,"is_official":true},
        {"name":"evil/box","description":"\u001b[2Jclears","star_count":0,"is_official":false},
        {"name":"no/description","star_count":1}]}"#;
    hub.put("/v1/search", Page::new(answer));
    let term = format!("{}/box", hub.host());
    let search = |more: &[&str]| {
        let line = ["search", &term];
        rbuild.run(line.iter().chain(more)).success().stdout
    };
    assert_eq!(
        search(&[]),
        "\
NAME             DESCRIPTION                                     STARS     OFFICIAL
busybox          Busybox base image.                             3300      [OK]
some/box         A box of two lines, of which one is so long …   3         
no/description                                                   1         
evil/box         clears                                          0         
"
    );
    let official = [
        "--filter=is-official=true",
        "--format={{.Name}} {{.StarCount}}",
    ];
    assert_eq!(search(&official), "busybox 3300\n");
    let liked = [
        "-f",
        "stars=3",
        "--format",
        "json",
        "--limit",
        "2",
        "--no-trunc",
    ];
    assert_eq!(
        search(&liked),
        "{\"Description\":\"Busybox base image.\",\"IsOfficial\":\"[OK]\",\"Name\":\"busybox\",\"StarCount\":\"3300\"}\n{\"Description\":\"A box of two lines, of which one is so long that nobody reads it\",\"IsOfficial\":\"\",\"Name\":\"some/box\",\"StarCount\":\"3\"}\n"
    );
    let asked: Vec<String> = hub.asked().into_iter().map(|it| it.path).collect();
    let queries: Vec<&String> = asked.iter().filter(|it| it.contains("search")).collect();
    assert_eq!(queries[0], "/v1/search?q=box&n=25");
    assert_eq!(queries[2], "/v1/search?q=box&n=2");

    let refused = |line: &[&str], code: i32| {
        rbuild
            .run([&["search"], line].concat())
            .failure(code)
            .stderr
    };
    assert_eq!(
        refused(&["--limit=101", "x"], 125),
        "error: limit 101 is outside the range of [1, 100]\n"
    );
    assert_eq!(
        refused(&["-f", "age=3", "x"], 125),
        "error: invalid filter 'age'\nhint: known are stars= and is-official=\n"
    );
    assert_eq!(
        refused(&["-f", "stars=many", "x"], 125),
        "error: invalid filter 'stars=many'\n"
    );
    let server = Server::start(Access::Everybody);
    let elsewhere = format!("{}/x", server.address());
    assert_eq!(
        refused(&[&elsewhere], 1),
        format!(
            "error: `{}` cannot be searched: it has no search as Docker Hub has\n",
            server.address()
        )
    );
    let dead = kit::docker_registry::free_address();
    let silent = refused(&[&format!("{dead}/x")], 1);
    assert!(
        silent.starts_with("error: cannot reach `127.0.0.1`: "),
        "{silent}"
    );
    assert_eq!(silent.lines().count(), 1, "{silent}");
}

#[test]
fn a_pull_that_hangs_ends_when_it_is_told_to_and_leaves_nothing_as_root() {
    let (server, rbuild, base) = served();
    let proxy = Proxy::start(server.address());
    proxy.trouble("GET /v2/lib/base/blobs/", 9, What::Stalls(100_000));
    let name = base.replace(server.address(), &proxy.address());
    let mut child = rbuild
        .command(["pull", &name])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The second of the two that are asked for is the layer.
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("Downloading") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "{line}");
    }
    signal(&child, Signal::INT).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    assert_eq!(rbuild.run(["images", "-q"]).success().stdout, "");
    rbuild.run(["pull", "-q", &base]).success();
}

#[test]
fn layers_with_a_table_go_to_a_registry_and_come_back_as_root() {
    let (server, rbuild, base) = served();
    rbuild.write("Dockerfile", format!("FROM {base}\nRUN echo hello > /a\n"));
    let name = format!("{}/lib/star:1", server.address());
    let build = [
        "build",
        "-q",
        "-o",
        "type=registry,compression=estargz",
        "-t",
        &name,
        ".",
    ];
    rbuild.run(build).success();
    let raw = |name: &str| {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--raw", "--tls-verify=false"]);
        said(skopeo.arg(format!("docker://{name}")))
    };
    let manifest = raw(&name);
    assert_eq!(
        manifest.matches("stargz/toc.digest").count(),
        2,
        "{manifest}"
    );
    // What is remembered is the same again.
    rbuild.run(build).success();
    assert_eq!(raw(&name), manifest);
    let there = Rbuild::new(RBUILD);
    there.run(["pull", "-q", &name]).success();
    let ran = there.run(["run", "--rm", &name, "cat", "/a"]).success();
    assert_eq!(ran.stdout, "hello\n");
    assert_eq!(there.run(["store", "verify"]).success().stderr, "");
    assert_eq!(rbuild.run(["store", "verify"]).success().stderr, "");
}

/// An image with a layer of this many bytes that do not pack, in a registry behind a proxy that stops in the
/// middle of it, once; and a pull that was killed there.
fn killed_in_the_middle(size: usize, middle: u64) -> (Server, Proxy, Rbuild, String) {
    let server = Server::start(Access::Everybody);
    let here = Rbuild::new(RBUILD);
    let noise = (0..size as u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 23) as u8);
    here.write("noise", noise.collect::<Vec<u8>>());
    here.write("Dockerfile", "FROM scratch\nCOPY noise /\n");
    let name = format!("{}/lib/noise:1", server.address());
    let sent = [
        "build",
        "-q",
        "-o",
        "type=registry,compression=uncompressed",
        "-t",
        &name,
        ".",
    ];
    here.run(sent).success();
    let proxy = Proxy::start(server.address());
    let name = name.replace(server.address(), &proxy.address());
    let there = Rbuild::new(RBUILD);
    // What is shorter passes.
    proxy.trouble("GET /v2/lib/noise/blobs/", 9, What::Stalls(middle));
    let mut child = there.command(["pull", "-q", &name]).spawn().unwrap();
    while parts(&there).iter().sum::<u64>() + 4096 < middle {
        assert_eq!(child.try_wait().unwrap(), None);
        thread::sleep(Duration::from_millis(10));
    }
    signal(&child, Signal::KILL).unwrap();
    child.wait().unwrap();
    proxy.calm();
    (server, proxy, there, name)
}

/// How long the parts of blobs are that a store keeps.
fn parts(rbuild: &Rbuild) -> Vec<u64> {
    let parts = fs::read_dir(rbuild.root().join("partial"));
    let parts = parts.into_iter().flatten().flatten();
    parts
        .filter_map(|it| Some(it.metadata().ok()?.len()))
        .collect()
}

#[test]
fn a_pull_that_was_killed_goes_on_where_it_was_as_root() {
    let (size, middle) = (8 << 20, 6 << 20);
    let (_server, proxy, rbuild, name) = killed_in_the_middle(size, middle);
    // It is nothing that a verification or a collection minds.
    assert_eq!(rbuild.run(["store", "verify"]).success().stderr, "");
    rbuild.run(["image", "prune", "-f"]).success();
    assert!(parts(&rbuild).iter().sum::<u64>() + 4096 >= middle);
    let before = proxy.down();
    rbuild.run(["pull", "-q", &name]).success();
    let again = proxy.down() - before;
    // A chunk at most comes twice, and the words around it.
    let rest = size as u64 - middle + (256 << 10);
    assert!(again < rest, "{again} bytes");
    assert_eq!(parts(&rbuild), [0; 0]);
    assert_eq!(rbuild.run(["store", "verify"]).success().stderr, "");
}

#[test]
fn a_part_of_a_blob_that_was_damaged_is_fetched_again_as_root() {
    let (_server, _proxy, rbuild, name) = killed_in_the_middle(2 << 20, 1 << 20);
    for part in fs::read_dir(rbuild.root().join("partial")).unwrap() {
        let path = part.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    rbuild.run(["pull", "-q", &name]).success();
    assert_eq!(rbuild.run(["store", "verify"]).success().stderr, "");
}

#[test]
fn parts_of_blobs_go_with_all_that_can_go_as_root() {
    let (_server, _proxy, rbuild, _) = killed_in_the_middle(2 << 20, 1 << 20);
    assert_ne!(parts(&rbuild), [0; 0]);
    rbuild.run(["cache", "prune", "-f"]).success();
    assert_ne!(parts(&rbuild), [0; 0]);
    rbuild.run(["cache", "prune", "-af"]).success();
    assert_eq!(parts(&rbuild), [0; 0]);
}

/// What a program that ends well writes.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn attestations_are_in_the_registry_beside_the_image_as_root() {
    let (server, rbuild, base) = served();
    rbuild.write("Dockerfile", format!("FROM {base}\nRUN echo hello > /a\n"));
    let app = format!("{}/lib/app:v1", server.address());
    let line = [
        "build",
        "-q",
        "-t",
        &app,
        "--push",
        "--sbom",
        "--provenance",
    ];
    rbuild.run(line.iter().chain(&["."])).success();

    let raw = |name: &str| -> serde_json::Value {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--tls-verify=false", "--raw"]);
        let output = said(skopeo.arg(format!("docker://{name}")));
        serde_json::from_str(&output).unwrap()
    };
    let index = raw(&app);
    let [image, attestation] = &index["manifests"].as_array().unwrap()[..] else {
        panic!("an image and what is said about it: {index}")
    };
    let annotations = &attestation["annotations"];
    assert_eq!(
        annotations["vnd.docker.reference.type"],
        "attestation-manifest"
    );
    assert_eq!(annotations["vnd.docker.reference.digest"], image["digest"]);
    assert_eq!(attestation["platform"]["os"], "unknown");
    let repository = app.strip_suffix(":v1").unwrap();
    let manifest = raw(&format!(
        "{repository}@{}",
        attestation["digest"].as_str().unwrap()
    ));
    let layers = manifest["layers"].as_array().unwrap();
    let kinds: Vec<&str> = layers
        .iter()
        .map(|it| {
            it["annotations"]["in-toto.io/predicate-type"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "https://spdx.dev/Document",
            "https://slsa.dev/provenance/v1"
        ]
    );

    // What the provenance says of the base is what the registry says.
    let blob = layers[1]["digest"].as_str().unwrap();
    let mut get = Command::new("curl");
    get.args([
        "-sf",
        &format!("http://{}/v2/lib/app/blobs/{blob}", server.address()),
    ]);
    let statement: serde_json::Value = serde_json::from_str(&said(&mut get)).unwrap();
    let subject = &statement["subject"][0];
    let digest = image["digest"].as_str().unwrap();
    assert_eq!(
        format!("sha256:{}", subject["digest"]["sha256"].as_str().unwrap()),
        digest
    );
    assert!(
        subject["name"]
            .as_str()
            .unwrap()
            .ends_with("/lib/app@v1?platform=linux%2Famd64")
    );
    let of_base = &statement["predicate"]["buildDefinition"]["resolvedDependencies"][0];
    let mut inspect = Command::new("skopeo");
    inspect.args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"]);
    let known = said(inspect.arg(format!("docker://{base}")));
    assert_eq!(
        format!("sha256:{}", of_base["digest"]["sha256"].as_str().unwrap()),
        known.trim()
    );

    // What was said when it was built is there wherever it is pushed later.
    let before = index["manifests"].clone();
    let later = format!("{}/lib/later:v1", server.address());
    rbuild.run(["tag", &app, &later]).success();
    rbuild.run(["push", "-q", &later]).success();
    let index = raw(&later);
    let [again, said_later] = &index["manifests"].as_array().unwrap()[..] else {
        panic!("an image and what is said about it: {index}")
    };
    assert_eq!(again, &before[0]);
    assert_eq!(
        said_later["annotations"]["vnd.docker.reference.digest"],
        again["digest"]
    );

    // Whoever pulls it gets the image alone.
    let other = Rbuild::new(RBUILD);
    other.run(["pull", "-q", &app]).success();
    assert_eq!(
        other
            .run(["run", "--rm", &app, "cat", "/a"])
            .success()
            .stdout,
        "hello\n"
    );
}
