//! rbuild in a container of another engine, as in many a CI: with what such a container allows.

use kit::engines::Docker;

use super::engines::{Beside, DOCKER, PODMAN, docker, podman};

/// Builds an image and runs it, in a container that has busybox and `/lent`.
const SCRIPT: &str = r#"
export PATH=/bin:/lent RBUILD_ROOT=/store
mkdir -p /tmp /work && cd /work
rbuild load -q -i /lent/saved.tar >/dev/null
printf 'FROM example.com/archived:v1\nRUN echo $(hostname) $(id -u) > /made\n' > Dockerfile
rbuild build -q --network none -t inner . > /dev/null && rbuild run --rm --network none inner cat /made
"#;

const HELP: &str = "hint: rbuild is in a container that allows too little: start that with `--privileged`, or with \
    `--security-opt seccomp=unconfined` and `--security-opt unmask=ALL` (podman; docker calls the second \
    `systempaths=unconfined`)";

/// What a usual container refuses is told with what helps; and each of `enough` does help.
fn check(beside: &Beside, transport: &str, run: &str, enough: &[&str]) {
    beside.said(&format!("rbuild push {transport}:example.com/archived:v1"));
    beside.rbuild.write("lent/script", SCRIPT);
    beside.said("cp saved.tar lent && cp $(command -v rbuild) lent/rbuild");
    let inside = |flags: &str| {
        let lent = "-v $PWD/lent:/lent:ro example.com/archived:v1 sh /lent/script";
        beside.run(&format!("{run} {flags} {lent}"))
    };
    let said = inside("").failure(1).stderr;
    assert_eq!(said.lines().last(), Some(HELP), "{said}");
    for flags in enough {
        assert_eq!(
            inside(flags).success().stdout,
            "buildkitsandbox 0\n",
            "{flags}"
        );
    }
}

#[test]
fn a_container_of_podman_says_what_it_lacks_and_has_it_when_told_as_root() {
    let few = "--security-opt seccomp=unconfined --security-opt unmask=ALL";
    check(
        &podman(),
        "containers-storage",
        PODMAN,
        &["--privileged", few],
    );
}

#[test]
fn a_container_of_docker_says_what_it_lacks_and_has_it_when_told_as_root() {
    let engine = Docker::start().unwrap();
    // `--privileged` asks for every capability, which not every machine has to give.
    let few = "--security-opt seccomp=unconfined --security-opt systempaths=unconfined";
    check(&docker(&engine), "docker-daemon", DOCKER, &[few]);
}
