//! rbuild in a container of another engine, as in many a CI: with what such a container allows.

use super::engines::{PODMAN, podman};

/// Builds an image and runs it, in a container that has busybox and `/lent`.
const SCRIPT: &str = r#"
export PATH=/bin:/lent RBUILD_ROOT=/store
mkdir -p /tmp /work && cd /work
rbuild load -q -i /lent/saved.tar >/dev/null
printf 'FROM example.com/archived:v1\nRUN echo $(hostname) $(id -u) > /made\n' > Dockerfile
rbuild build -q --network none -t inner . > /dev/null && rbuild run --rm --network none inner cat /made
"#;

/// Where `flags` start the container, what comes of the script; with the last line of what is said where it fails.
fn check(flags: &str, expected: Result<&str, &str>) {
    let beside = podman();
    beside.said("rbuild push containers-storage:example.com/archived:v1");
    beside.rbuild.write("lent/script", SCRIPT);
    beside.said("cp saved.tar lent && cp $(command -v rbuild) lent/rbuild");
    let output = beside.run(&format!(
        "{PODMAN} {flags} -v $PWD/lent:/lent:ro example.com/archived:v1 sh /lent/script"
    ));
    match expected {
        Ok(said) => assert_eq!(output.success().stdout, said, "{flags}"),
        Err(last) => {
            let said = output.failure(1).stderr;
            assert_eq!(said.lines().last(), Some(last), "{flags}: {said}");
        }
    }
}

#[test]
fn what_a_container_of_podman_must_allow_is_said_and_is_enough_as_root() {
    let help = "hint: rbuild is in a container that allows too little: start that with `--privileged`, or with \
        `--security-opt seccomp=unconfined` and `--security-opt unmask=ALL` (podman; docker calls the second \
        `systempaths=unconfined`)";
    check("", Err(help));
    let made = Ok("buildkitsandbox 0\n");
    check("--privileged", made);
    check(
        "--security-opt seccomp=unconfined --security-opt unmask=ALL",
        made,
    );
}
