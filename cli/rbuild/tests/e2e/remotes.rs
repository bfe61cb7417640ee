//! Repositories behind real servers: OpenSSH, and git behind a web server that speaks TLS. And keys that are lent.

use std::fs;
use std::path::{Path, PathBuf};

use kit::programs;
use kit::rbuild::{Output, Rbuild, run};
use kit::repository::Repository;
use kit::sshd::{Sshd, make_key};
use kit::tinyproxy::Proxy;
use kit::tls::Server;

use super::rbuild;

/// Makes a key in the home that a server lets in.
fn key(rbuild: &Rbuild, server: &Sshd, name: &str, options: &[&str]) -> PathBuf {
    let path = rbuild.home().join(name);
    make_key(&path, options).unwrap();
    server.let_in(&path.with_extension("pub")).unwrap();
    path
}

/// `--ssh` with keys from files.
fn lent(keys: &[&Path]) -> String {
    let keys: Vec<_> = keys.iter().map(|it| it.to_str().unwrap()).collect();
    format!("--ssh=default={}", keys.join(","))
}

#[test]
fn a_step_signs_with_keys_that_it_does_not_have_as_root() {
    let rbuild = rbuild();
    let server = Sshd::start().unwrap();
    let kinds: [(&str, &[&str], &str); 5] = [
        ("ed25519", &["-t", "ed25519"], "(ED25519)"),
        ("p256", &["-t", "ecdsa", "-b", "256"], "(ECDSA)"),
        ("p384", &["-t", "ecdsa", "-b", "384"], "(ECDSA)"),
        ("rsa2048", &["-t", "rsa", "-b", "2048"], "(RSA)"),
        ("rsa3072", &["-t", "rsa", "-b", "3072"], "(RSA)"),
    ];
    programs::copy(&["ssh", "ssh-add"], &rbuild.work().join("programs")).unwrap();
    let dockerfile = format!(
        "FROM busybox\nCOPY programs /\n\
         RUN --mount=type=ssh --network=host ssh-add -l && ! ssh-add -D && ! ssh-add -x </dev/null && \
         ssh -o StrictHostKeyChecking=no -o BatchMode=yes -p {} root@127.0.0.1 echo from there\n",
        server.port()
    );
    rbuild.write("Dockerfile", dockerfile);
    for (name, options, shown) in kinds {
        let key = key(&rbuild, &server, name, options);
        let arguments = [
            "build",
            "--progress=plain",
            "--no-cache",
            "--allow=network.host",
        ];
        let ssh = lent(&[&key]);
        let log = rbuild.run(arguments.iter().chain(&[ssh.as_str(), "."]));
        let log = log.success().stderr;
        for said in [shown, " from there\n"] {
            assert!(log.contains(said), "{name}: {log}");
        }
        // What a signature is made of has not been in the step, so nor in the store.
        let private = fs::read_to_string(&key).unwrap();
        let line = private.lines().nth(2).unwrap();
        let found = run(&mut rbuild.shell(&format!("grep -rlF '{line}' $RBUILD_ROOT; true")));
        assert_eq!(found.success().stdout, "");
    }
}

/// Shows its files, and those of a submodule.
const SHOWS: &str =
    "FROM busybox\nCOPY . /x\nCMD [\"sh\", \"-c\", \"cd /x && find . -type f | sort\"]\n";

/// Makes repositories `project.git` and `inner.git` below `directory`; the one has the other as a submodule, and a tag.
fn repositories(directory: &Path) -> Repository {
    let inner = Repository::create(&directory.join("inner.git")).unwrap();
    inner.write("deep", "").unwrap();
    let commit = inner.commit("one").unwrap();
    let project = Repository::create(&directory.join("project.git")).unwrap();
    project.write("Dockerfile", SHOWS).unwrap();
    project.write("sub/Dockerfile", SHOWS).unwrap();
    project.write("sub/only", "").unwrap();
    let module = "[submodule \"inner\"]\n\tpath = inner\n\turl = ../inner.git\n";
    project.write(".gitmodules", module).unwrap();
    // As `git submodule add` does it, which would have to fetch.
    let link = format!("160000,{commit},inner");
    let add = ["update-index", "--add", "--cacheinfo", &link];
    project.git(&add).unwrap();
    fs::create_dir(project.path().join("inner")).unwrap();
    project
        .git(&["add", "Dockerfile", "sub", ".gitmodules"])
        .unwrap();
    project
        .git(&["commit", "--quiet", "--message", "one"])
        .unwrap();
    project.git(&["tag", "v1"]).unwrap();
    project
}

/// What the image `it` shows.
fn shown(rbuild: &Rbuild) -> String {
    rbuild.run(["run", "--rm", "it"]).success().stdout
}

fn build(rbuild: &Rbuild, arguments: &[&str]) -> Output {
    let always = ["build", "--progress=plain", "-t", "it"];
    rbuild.run(always.iter().chain(arguments))
}

/// The one line that says why a build failed, behind what was asked of the repository.
#[track_caller]
fn why(output: Output, url: &str) -> String {
    let said = output.failure(1).stderr;
    let last = said.lines().last().unwrap_or_default().to_owned();
    let (_, reason) = last
        .split_once(&format!("{url}: "))
        .unwrap_or_else(|| panic!("{said}"));
    reason.to_owned()
}

const ALL: &str = "./.gitmodules\n./Dockerfile\n./inner/deep\n./sub/Dockerfile\n./sub/only\n";
const PART: &str = "./Dockerfile\n./only\n";

#[test]
fn a_repository_behind_openssh_is_a_context_and_a_source_for_who_has_a_key_as_root() {
    let rbuild = rbuild();
    let mut server = Sshd::start().unwrap();
    let served = rbuild.home().join("served");
    repositories(&served);
    let url = server.url(&served.join("project.git"));
    let good = lent(&[&key(&rbuild, &server, "good", &["-t", "ecdsa"])]);
    let other = rbuild.home().join("other");
    make_key(&other, &["-t", "ed25519"]).unwrap();

    assert_eq!(
        why(build(&rbuild, &[&url]), &url),
        "the server wants a key: lend it one with `--ssh default` or `--ssh default=FILE`"
    );
    assert_eq!(
        why(build(&rbuild, &[&lent(&[&other]), &url]), &url),
        "the server accepts none of the keys that `--ssh` lends"
    );
    build(&rbuild, &[&good, &url]).success();
    assert_eq!(shown(&rbuild), ALL);
    build(&rbuild, &[&good, &format!("{url}#v1:sub")]).success();
    assert_eq!(shown(&rbuild), PART);
    let missing = server.url(&served.join("none.git"));
    let said = why(build(&rbuild, &[&good, &missing]), &missing);
    assert!(
        said.ends_with("does not appear to be a git repository"),
        "{said}"
    );

    // The same in a Dockerfile, where a running agent does as well.
    rbuild.write(
        "Dockerfile",
        format!("FROM busybox\nADD --keep-git-dir {url}#v1 /x\nCMD [\"ls\", \"-A\", \"/x\"]\n"),
    );
    let line = format!(
        "eval $(ssh-agent) >/dev/null; ssh-add -q {}; rbuild build -q -t it --ssh default . ; kill $SSH_AGENT_PID",
        rbuild.home().join("good").display()
    );
    run(&mut rbuild.shell(&line)).success();
    assert_eq!(
        shown(&rbuild),
        ".git\n.gitmodules\nDockerfile\ninner\nsub\n"
    );

    // The host was seen before, and now it is another.
    server.change_key().unwrap();
    let said = why(
        build(&rbuild, &[&good, "--no-cache", &format!("{url}#main")]),
        &url,
    );
    let known = rbuild.root().join("sources/known_hosts");
    assert_eq!(
        said,
        format!(
            "the host has another key than in `{}:1`: somebody may stand in between; if not, remove that line",
            known.display()
        )
    );
    // Who builds knows better.
    let theirs = rbuild.home().join(".ssh");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("known_hosts"), server.known_as().unwrap()).unwrap();
    build(&rbuild, &[&good, &format!("{url}#main")]).success();
}

#[test]
fn a_repository_behind_tls_is_a_context_and_a_source_for_who_has_a_token_as_root() {
    let rbuild = rbuild();
    let served = rbuild.home().join("served");
    repositories(&served);
    repositories(&served.join("private"));
    let server = Server::start(&served).unwrap();
    let (open, private) = (
        server.url("/project.git"),
        server.url("/private/project.git"),
    );
    let believing = |arguments: &[&str]| {
        let always = ["build", "--progress=plain", "-t", "it"];
        let mut command = rbuild.command(always.iter().chain(arguments));
        run(command.env("SSL_CERT_FILE", server.authority()))
    };

    assert_eq!(
        why(build(&rbuild, &[&open]), &open),
        "nobody known here vouches for the server's certificate; $SSL_CERT_FILE can name who does"
    );
    believing(&[&open]).success();
    assert_eq!(shown(&rbuild), ALL);
    believing(&[&format!("{open}?ref=v1&subdir=sub")]).success();
    assert_eq!(shown(&rbuild), PART);
    let missing = server.url("/none.git");
    let said = why(believing(&[&missing]), &missing);
    assert_eq!(said, format!("repository '{missing}/' not found"));

    assert_eq!(
        why(believing(&[&private]), &private),
        "the server asks who you are: lend it the secret GIT_AUTH_TOKEN or GIT_AUTH_HEADER"
    );
    rbuild
        .write("token", "secret\n")
        .write("wrong", "guessed")
        // base64 of `somebody:secret`
        .write("header", "Basic c29tZWJvZHk6c2VjcmV0\n");
    assert_eq!(
        why(
            believing(&["--secret=id=GIT_AUTH_TOKEN,src=wrong", &private]),
            &private
        ),
        "the server does not accept the password, token or header that it got"
    );
    let of_host = format!("--secret=id=GIT_AUTH_TOKEN.{},src=token", "127.0.0.1");
    for (secret, who) in [
        ("--secret=id=GIT_AUTH_TOKEN,src=token", "x-access-token"),
        (&of_host, "x-access-token"),
        ("--secret=id=GIT_AUTH_HEADER,src=header", "somebody"),
    ] {
        // Each time asked anew, since what was fetched is kept.
        let before = server.asked().unwrap().len();
        believing(&[secret, "--no-cache", &private]).success();
        assert_eq!(shown(&rbuild), ALL);
        let asked = server.asked().unwrap();
        let line = format!("/private/project.git/info/refs 200 {who}");
        assert!(asked[before..].contains(&line), "{asked:?}");
    }
    let with_password = private.replace("https://", "https://somebody:secret@");
    believing(&[&with_password]).success();

    rbuild.write(
        "Dockerfile",
        format!("FROM busybox\nADD {private}#v1:sub /x\nCMD [\"ls\", \"/x\"]\n"),
    );
    believing(&["--secret=id=GIT_AUTH_TOKEN,src=token", "."]).success();
    assert_eq!(shown(&rbuild), "Dockerfile\nonly\n");
    let found =
        run(&mut rbuild
            .shell("grep -rlE 'c29tZWJvZHk6c2VjcmV0|somebody:secret' $RBUILD_ROOT; true"));
    assert_eq!(found.success().stdout, "");
}

#[test]
fn a_proxy_of_the_environment_is_on_the_way_to_servers_and_not_in_steps_as_root() {
    let rbuild = rbuild();
    let served = rbuild.home().join("served");
    repositories(&served);
    fs::write(served.join("file"), "of the web").unwrap();
    let server = Server::start(&served).unwrap();
    let proxy = Proxy::start().unwrap();
    let dockerfile = format!(
        "FROM busybox\nADD {} /file\nADD {} /x\nRUN [ -z \"$HTTPS_PROXY$https_proxy\" ]\n",
        server.url("/file"),
        server.url("/project.git")
    );
    rbuild.write("Dockerfile", dockerfile);
    let build = |name: &str, exception: &str| {
        let mut command = rbuild.command(["build", "-q", "--no-cache", "."]);
        command
            .env("SSL_CERT_FILE", server.authority())
            .env(name, proxy.url())
            .env("NO_PROXY", exception);
        run(&mut command).success();
        proxy.asked().unwrap()
    };
    let port = server.host();
    let all = build("HTTPS_PROXY", "elsewhere.example");
    let (of_files, of_git) = (1, 2);
    assert!(all.len() >= of_files + of_git, "{all:?}");
    assert!(all.iter().all(|it| *it == port), "{all:?}");
    let excepted = build("https_proxy", "127.0.0.1");
    assert_eq!(excepted.len(), all.len(), "{excepted:?}");
}
