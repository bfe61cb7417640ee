//! Images straight into other engines of this machine, and by archives into them and back.

use kit::engines::{Containerd, Docker};
use kit::rbuild::{Output, Rbuild, run};

use super::archives::{SAID, saved};
use super::rbuild;

/// Runs a container in podman, as far as a machine like a build server's lets it.
pub(super) const PODMAN: &str = "podman --cgroup-manager cgroupfs --runtime runc run --rm --network none --ulimit nofile=1024:1024 --ulimit nproc=4096:4096";

/// Runs a container in docker.
pub(super) const DOCKER: &str = "docker run --rm --network none";

/// An rbuild and the variables by which the engines' own programs find them.
pub(super) struct Beside {
    pub(super) rbuild: Rbuild,
    variables: Vec<(&'static str, String)>,
}

impl Beside {
    /// An rbuild with the image that has everything, and its archive.
    fn saved(variables: &[(&'static str, String)]) -> Self {
        Self {
            rbuild: saved(),
            variables: variables.to_vec(),
        }
    }

    pub(super) fn run(&self, line: &str) -> Output {
        let mut command = self.rbuild.shell(line);
        run(command.envs(self.variables.iter().map(|(name, value)| (name, value))))
    }

    /// What a line says that ends well.
    pub(super) fn said(&self, line: &str) -> String {
        self.run(line).success().stdout
    }
}

/// Podman with a storage of its own.
pub(super) fn podman() -> Beside {
    let rbuild = saved();
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/g\"\nrunroot = \"{0}/r\"\n",
        rbuild.home().display()
    );
    rbuild.write("storage.conf", storage);
    let path = rbuild.work().join("storage.conf").display().to_string();
    Beside {
        rbuild,
        variables: vec![("CONTAINERS_STORAGE_CONF", path)],
    }
}

pub(super) fn docker(docker: &Docker) -> Beside {
    let config = ("DOCKER_CONFIG", "/nowhere".to_owned());
    Beside::saved(&[("DOCKER_HOST", docker.host()), config])
}

fn containerd(containerd: &Containerd) -> Beside {
    let namespace = ("CONTAINERD_NAMESPACE", "test".to_owned());
    Beside::saved(&[("CONTAINERD_ADDRESS", containerd.address()), namespace])
}

/// How images get into an engine.
struct Ways {
    /// Before the name, behind `push`.
    transport: &'static str,
    /// The `type=` of an output.
    output: &'static str,
    /// Runs the image `$1` in it, with the command behind that.
    run: String,
}

const NAME: &str = "example.com/archived:v1";

/// Layers that the engine has are not sent, by whichever way an image goes there; and it runs.
fn check_straight_in(beside: &Beside, ways: &Ways) {
    let Ways {
        transport,
        output,
        run,
    } = ways;
    let run = |image: &str, command: &str| {
        let line = format!("set -- {image} {command}; {run}");
        beside.said(&line)
    };
    let push = |name: &str| beside.said(&format!("rbuild push {transport}:{name}"));
    let given = format!("Loaded image: {NAME}");
    assert_eq!(push(NAME), format!("{given} (0 of 3 layers were there)\n"));
    assert_eq!(run(NAME, ""), SAID);
    assert_eq!(push(NAME), format!("{given} (3 of 3 layers were there)\n"));

    let dockerfile = format!("FROM {NAME}\nRUN echo more > /more\n");
    beside.rbuild.write("Dockerfile", dockerfile);
    let more = "example.com/more";
    let build =
        format!("rbuild build --progress=plain -t {more}:v1 -t {more}:v2 -o type={output} .");
    let told = beside.run(&build).success().stderr;
    for (tag, known) in [("v1", 3), ("v2", 4)] {
        let line =
            format!("\n{output}: Loaded image: {more}:{tag} ({known} of 4 layers were there)\n");
        assert!(told.contains(&line), "{line}{told}");
        assert_eq!(
            run(&format!("{more}:{tag}"), "cat /more /d/hard"),
            "more\none\n"
        );
    }
    // It is in the store as well, and quiet is quiet.
    let quiet = beside.run(&format!(
        "rbuild build -q -t {more}:v1 -o type={output},name={more}:v3 ."
    ));
    let quiet = quiet.success();
    assert_eq!(quiet.stderr, "");
    let id = beside.said(&format!("rbuild images -q --no-trunc {more}:v3"));
    assert_eq!(quiet.stdout, id);

    // Of several platforms, the one of this machine runs.
    beside.rbuild.write("Dockerfile", "ARG TARGETARCH\nFROM busybox AS base-amd64\nFROM scratch AS base-arm64\nFROM base-$TARGETARCH\nARG TARGETARCH\nENV ARCH=$TARGETARCH\nCMD [\"sh\", \"-c\", \"echo $ARCH\"]\n");
    let several = "example.com/several:v1";
    let build = format!(
        "rbuild build -q --platform=linux/arm64,linux/amd64 -t {several} -o type={output} ."
    );
    beside.said(&build);
    assert_eq!(run(several, ""), "amd64\n");
}

#[test]
fn docker_is_given_only_the_layers_that_it_lacks_as_root() {
    let engine = Docker::start().unwrap();
    let beside = docker(&engine);
    let ways = Ways {
        transport: "docker-daemon",
        output: "docker",
        run: format!("{DOCKER} \"$@\""),
    };
    check_straight_in(&beside, &ways);
    let images = "docker images --format '{{.Repository}}:{{.Tag}}' | sort";
    assert_eq!(
        beside.said(images),
        "example.com/archived:v1\nexample.com/more:v1\nexample.com/more:v2\nexample.com/more:v3\nexample.com/several:v1\n",
        "nothing of other platforms"
    );
    // What has no name there is known by its id, which is the same.
    beside
        .rbuild
        .write("Dockerfile", "FROM busybox\nRUN echo nameless > /n\n");
    let built = beside
        .run("rbuild build --progress=plain -o type=docker,compression=gzip .")
        .success();
    let id = beside.said("docker images -q --no-trunc --filter dangling=true");
    let line = format!(
        "\ndocker: Loaded image ID: {} (1 of 2 layers were there)\n",
        id.trim()
    );
    assert!(built.stderr.contains(&line), "{line}{}", built.stderr);
}

#[test]
fn containerd_is_given_only_the_layers_that_it_lacks_as_root() {
    let engine = Containerd::start().unwrap();
    let beside = containerd(&engine);
    let ways = Ways {
        transport: "containerd",
        output: "containerd",
        run: format!("image=$1; shift; {}", ctr_run(&engine)),
    };
    check_straight_in(&beside, &ways);
    let index = beside.said("ctr content get $(ctr images ls | awk '/several/ { print $3 }')");
    assert!(index.contains("arm64"), "{index}");
    let missing = beside.said("ctr images check | awk '/several/ { print $4 }'");
    assert_eq!(missing, "complete\n");
}

/// Runs `$image` in containerd. What it says goes through a file: ctr itself stops listening when a container ends, and
/// does not always hear all.
fn ctr_run(engine: &Containerd) -> String {
    let ctr = format!("{} ctr run --rm --snapshotter=native", engine.beside());
    format!(
        "{ctr} --log-uri file://$PWD/heard $image test \"$@\"; code=$?; cat heard && rm heard && exit $code"
    )
}

#[test]
fn podman_is_given_only_the_layers_that_it_lacks_as_root() {
    let beside = podman();
    let ways = Ways {
        transport: "containers-storage",
        output: "podman",
        run: format!("{PODMAN} \"$@\""),
    };
    check_straight_in(&beside, &ways);
    let images = "podman images --format '{{.Repository}}:{{.Tag}}' | sort";
    assert_eq!(
        beside.said(images),
        "example.com/archived:v1\nexample.com/more:v1\nexample.com/more:v2\nexample.com/more:v3\nexample.com/several:v1\n"
    );
}

#[test]
fn docker_loads_what_save_writes_and_load_takes_what_docker_saves_as_root() {
    let engine = Docker::start().unwrap();
    let beside = docker(&engine);
    let ids = beside.said(&format!("rbuild images -q --no-trunc {NAME}"));
    // With layers as they are, and packed as docker of this age reads it.
    beside.said(&format!("docker load -q -i saved.tar && rbuild build -q -t {NAME} -o type=docker,dest=packed.tar,compression=gzip ."));
    for archive in ["saved.tar", "packed.tar"] {
        beside.run("docker images -q | xargs docker rmi -f");
        let loaded = beside.said(&format!("docker load -i {archive} 2>/dev/null"));
        assert_eq!(loaded, format!("Loaded image: {NAME}\n"), "{archive}");
        assert_eq!(
            beside.said(&format!("docker images -q --no-trunc {NAME}")),
            ids
        );
        assert_eq!(
            beside.said(&format!("docker run --rm --network none {NAME}")),
            SAID
        );
    }
    beside.said(&format!("docker save -o theirs.tar {NAME}"));
    beside.said(&format!("rbuild rmi {NAME}"));
    assert_eq!(
        beside.said("rbuild load -i theirs.tar"),
        format!("Loaded image: {NAME}\n")
    );
    assert_eq!(
        beside.said(&format!("rbuild images -q --no-trunc {NAME}")),
        ids
    );
    assert_eq!(beside.said(&format!("rbuild run --rm {NAME}")), SAID);
}

#[test]
fn containerd_imports_what_save_writes_and_load_takes_what_it_exports_as_root() {
    let engine = Containerd::start().unwrap();
    let beside = containerd(&engine);
    let packed = |how: &str| {
        format!("rbuild build -q -t {NAME} -o type=oci,dest={how}.tar,compression={how} .")
    };
    beside.said(&[packed("gzip"), packed("zstd")].join(" && "));
    for archive in ["saved.tar", "gzip.tar", "zstd.tar"] {
        beside.said(&format!("ctr images import --snapshotter=native {archive}"));
        let run = format!("set -- && image={NAME} && {}", ctr_run(&engine));
        assert_eq!(beside.said(&run), SAID, "{archive}");
        beside.said(&format!(
            "ctr images export theirs.tar {NAME} && ctr images rm {NAME} && rbuild rmi -f {NAME}"
        ));
        assert_eq!(
            beside.said("rbuild load -i theirs.tar"),
            format!("Loaded image: {NAME}\n"),
            "{archive}"
        );
        assert_eq!(
            beside.said(&format!("rbuild run --rm {NAME}")),
            SAID,
            "{archive}"
        );
    }
}

#[test]
fn an_engine_that_is_not_there_is_missed_before_anything_is_built_as_root() {
    let rbuild = rbuild();
    rbuild.write("Dockerfile", "FROM busybox\nRUN echo built > /b\n");
    let said = |line: &str, code| run(&mut rbuild.shell(line)).failure(code).stderr;
    let nowhere =
        "DOCKER_HOST=unix:///nowhere/docker.sock CONTAINERD_ADDRESS=/nowhere/containerd.sock";
    for (output, code, words) in [
        ("docker", 1, "docker does not take the image"),
        ("containerd,name=x", 1, "`ctr` does not take the image"),
        ("containerd", 125, "needs a name"),
        (
            "podman,dest=x",
            125,
            "archives are type=docker,dest=FILE and type=oci,dest=FILE",
        ),
        ("docker,push=true", 125, "only images are pushed"),
    ] {
        let said = said(
            &format!("{nowhere} timeout 60 rbuild build -o type={output} ."),
            code,
        );
        assert!(said.contains(words), "{output}: {said}");
        assert!(!said.contains("RUN"), "{output}: {said}");
    }
    let far = said("DOCKER_HOST=ssh://far rbuild build -o type=docker .", 125);
    assert!(far.contains("DOCKER_HOST is `ssh://far`"), "{far}");
}
