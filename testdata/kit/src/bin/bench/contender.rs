//! Who takes part, and how each is told to do the same.
//!
//! A contender is found by trying: it must import the base image and build one `RUN` on it. Builders with several ways
//! to isolate a step (a runtime that refuses this kernel's cgroups, a storage driver that cannot mount here) are tried
//! way by way, the fastest first, and the table says which one it was.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{measure, scenario::Bench};

/// All that are looked for.
pub(crate) const NAMES: &[&str] = &[
    "rbuild", "buildah", "podman", "docker", "buildctl", "skopeo",
];

/// The base image, by the name everybody imports it under.
const BASE: &str = "bench-base";

/// One builder on this machine, with the options it needs here.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Its version and the way that works here.
    pub(crate) about: String,
    kind: Kind,
    program: PathBuf,
    way: Way,
    /// Where containers/storage keeps a store's state; it refuses paths longer than 50 bytes.
    state: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rbuild,
    Buildah,
    Podman,
    Docker,
    Buildctl,
    /// It builds nothing, and moves images that the rbuild under test has built.
    Skopeo,
}

/// Options that depend on the machine.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    storage: &'static [&'static str],
    build: &'static [&'static str],
    run: &'static [&'static str],
}

/// One build, whoever does it.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    /// The contender's storage for it; a daemon has its own and shares it.
    pub(crate) store: &'a Path,
    pub(crate) context: &'a Path,
    pub(crate) dockerfile: &'a Path,
    pub(crate) tag: &'a str,
    /// `NAME=VALUE` build arguments.
    pub(crate) args: &'a [String],
    /// Whether a contender that cannot be given an empty store is told to ignore its cache.
    pub(crate) cold: bool,
}

const OVERLAY: &[&str] = &["--storage-driver", "overlay"];
const VFS: &[&str] = &["--storage-driver", "vfs"];

/// How buildah can isolate a step, from what it does where all works to what always does.
const BUILDAH: &[Way] = &[
    Way {
        storage: OVERLAY,
        build: &["--isolation", "oci", "--runtime", "crun"],
        run: &[],
    },
    Way {
        storage: OVERLAY,
        build: &["--isolation", "oci", "--runtime", "runc"],
        run: &[],
    },
    Way {
        storage: OVERLAY,
        build: &["--isolation", "chroot"],
        run: &[],
    },
    Way {
        storage: VFS,
        build: &["--isolation", "oci", "--runtime", "runc"],
        run: &[],
    },
    Way {
        storage: VFS,
        build: &["--isolation", "chroot"],
        run: &[],
    },
];

/// Where raising limits is not allowed, podman must be told limits it need not raise.
const LIMITS: &[&str] = &[
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=4096:4096",
];

const PODMAN: &[Way] = &[
    Way {
        storage: &["--storage-driver", "overlay", "--runtime", "crun"],
        build: &[],
        run: &[],
    },
    Way {
        storage: &["--storage-driver", "overlay", "--runtime", "crun"],
        build: &[],
        run: LIMITS,
    },
    Way {
        storage: &["--storage-driver", "overlay", "--runtime", "runc"],
        build: &[],
        run: &[],
    },
    Way {
        storage: &["--storage-driver", "overlay", "--runtime", "runc"],
        build: &[],
        run: LIMITS,
    },
    Way {
        storage: &["--storage-driver", "vfs", "--runtime", "runc"],
        build: &[],
        run: LIMITS,
    },
];

impl Contender {
    /// The contender of that name; `None` where it is not installed, an error where it is and does not work.
    pub(crate) fn find(name: &'static str, rbuild: &Path, bench: &Bench) -> Result<Option<Self>> {
        let kind = match name {
            "rbuild" => Kind::Rbuild,
            "buildah" => Kind::Buildah,
            "podman" => Kind::Podman,
            "docker" => Kind::Docker,
            "skopeo" => Kind::Skopeo,
            _ => Kind::Buildctl,
        };
        let program = if kind == Kind::Rbuild {
            Some(rbuild.to_path_buf())
        } else {
            installed(name)
        };
        let Some(program) = program else {
            return Ok(None);
        };
        let about = version(&program)?;
        let mut contender = Self {
            name,
            about,
            kind,
            program,
            way: Way::default(),
            state: bench.state.clone(),
        };
        contender.is_served()?;
        let ways = match kind {
            Kind::Buildah => BUILDAH,
            Kind::Podman => PODMAN,
            Kind::Rbuild | Kind::Docker | Kind::Buildctl | Kind::Skopeo => &[Way {
                storage: &[],
                build: &[],
                run: &[],
            }],
        };
        let mut first = None;
        for (at, way) in ways.iter().enumerate() {
            contender.way = *way;
            match contender.trial(bench, at) {
                Ok(()) => {
                    let words = [way.storage, way.build, way.run].concat().join(" ");
                    if !words.is_empty() {
                        contender.about += &format!(" ({words})");
                    }
                    return Ok(Some(contender));
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.context("no way to try")?)
    }

    /// Whether it is one that only runs and saves when `others` take part: podman builds with buildah's code.
    pub(crate) fn builds_beside(&self, others: &[Self]) -> bool {
        self.builds()
            && (self.kind != Kind::Podman || others.iter().all(|it| it.kind != Kind::Buildah))
    }

    /// Whether it builds at all.
    pub(crate) fn builds(&self) -> bool {
        self.kind != Kind::Skopeo
    }

    /// Whether it can be told how layers are packed, and to give an image to a registry without TLS.
    pub(crate) fn moves(&self) -> bool {
        matches!(
            self.kind,
            Kind::Rbuild | Kind::Buildah | Kind::Podman | Kind::Skopeo
        )
    }

    /// Whether it can run a container from an image.
    pub(crate) fn runs(&self) -> bool {
        !matches!(self.kind, Kind::Buildah | Kind::Buildctl | Kind::Skopeo)
    }

    /// Whether it can be asked about a Dockerfile without building it.
    pub(crate) fn plans(&self) -> bool {
        self.kind == Kind::Rbuild
    }

    /// Whether it can keep its cache in a registry that is told to it in one word.
    pub(crate) fn has_registry_caches(&self) -> bool {
        matches!(self.kind, Kind::Rbuild | Kind::Buildah)
    }

    /// Gives the base image to a registry on loopback.
    pub(crate) fn push_base(&self, store: &Path, name: &str) -> Result<()> {
        let mut command = self.command(store);
        match self.kind {
            Kind::Buildah => {
                command.args(["push", "-q", "--tls-verify=false", self.base()]);
                command.arg(format!("docker://{name}"));
            }
            _ => {
                let mut tag = self.command(store);
                measure::run(tag.args(["tag", BASE, name]))?;
                command.args(["push", "-q", name]);
            }
        }
        measure::run(&command)
    }

    /// The command that does `build` with the cache in a repository on loopback, and perhaps into it.
    pub(crate) fn build_with_cache(
        &self,
        bench: &Bench,
        build: &Build<'_>,
        cache: &str,
        export: bool,
    ) -> Command {
        let mut options = vec!["--cache-from".to_owned(), cache.to_owned()];
        if self.kind == Kind::Buildah {
            options.push("--tls-verify=false".to_owned());
        }
        if export {
            options.push("--cache-to".to_owned());
            options.push(match self.kind {
                Kind::Buildah => cache.to_owned(),
                _ => format!("type=registry,ref={cache},mode=max"),
            });
        }
        // Buildah wants options before the context, which stands last.
        let plain = self.build(bench, build);
        let arguments: Vec<_> = plain.get_args().collect();
        let (context, others) = arguments.split_last().expect("a build has a context");
        let mut command = Command::new(plain.get_program());
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.args(others).args(options).arg(context);
        command
    }

    /// The base image's name in a `FROM` of this contender.
    pub(crate) fn base(&self) -> &'static str {
        match self.kind {
            Kind::Buildah | Kind::Podman => "localhost/bench-base",
            Kind::Rbuild | Kind::Docker | Kind::Buildctl | Kind::Skopeo => BASE,
        }
    }

    /// The processes that work for it without being its children.
    pub(crate) fn daemons(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Rbuild | Kind::Buildah | Kind::Podman | Kind::Skopeo => &[],
            Kind::Docker => &[
                "dockerd",
                "containerd",
                "containerd-shim-runc-v2",
                "buildkitd",
            ],
            Kind::Buildctl => &["buildkitd", "containerd", "containerd-shim-runc-v2"],
        }
    }

    /// Puts the base image, a tar of a root file system, into `store`.
    pub(crate) fn import(&self, store: &Path, tar: &Path) -> Result<()> {
        let mut command = self.command(store);
        match self.kind {
            Kind::Rbuild => command.args(["image", "import"]).arg(tar).arg(BASE),
            Kind::Docker | Kind::Podman => command.arg("import").arg(tar).arg(BASE),
            // It takes the base from a directory with every build.
            Kind::Buildctl | Kind::Skopeo => return Ok(()),
            Kind::Buildah => return self.import_with_buildah(store, tar),
        };
        measure::run(&command)
    }

    /// The command that does `build`.
    pub(crate) fn build(&self, bench: &Bench, build: &Build<'_>) -> Command {
        let mut command = self.command(build.store);
        if self.kind == Kind::Buildctl {
            self.build_with_buildctl(bench, build, &mut command);
            return command;
        }
        command.arg("build");
        match self.kind {
            // Its RUN has a network, as a user's has; the others are spared theirs.
            Kind::Rbuild | Kind::Buildctl | Kind::Skopeo => {}
            Kind::Buildah | Kind::Podman => {
                command
                    .args(["--layers", "--jobs", "8", "--network", "none"])
                    .args(self.way.build);
            }
            Kind::Docker => {
                command
                    .args(["--network", "none"])
                    .env("DOCKER_BUILDKIT", "1");
                if build.cold {
                    command.arg("--no-cache");
                }
            }
        }
        for arg in build.args {
            command.args(["--build-arg", arg]);
        }
        command
            .args(["-t", build.tag, "-f"])
            .arg(build.dockerfile)
            .arg(build.context);
        command
    }

    /// The command that runs `true` in a container of the base image.
    pub(crate) fn run_true(&self, store: &Path) -> Command {
        let mut command = self.command(store);
        command
            .args(["run", "--rm", "--network", "none"])
            .args(self.way.run)
            .args([self.base(), "true"]);
        command
    }

    /// The command that writes the image of `build`, built before, to a file.
    pub(crate) fn save(&self, bench: &Bench, build: &Build<'_>, out: &Path) -> Command {
        let mut command = self.command(build.store);
        match self.kind {
            Kind::Rbuild => command
                .args(["image", "save", "-o"])
                .arg(out)
                .arg(build.tag),
            Kind::Docker => command.args(["save", "-o"]).arg(out).arg(build.tag),
            Kind::Podman => command.args(["save", "-q", "-o"]).arg(out).arg(build.tag),
            Kind::Buildah => command.args(["push", "-q", build.tag]).arg(format!(
                "docker-archive:{}:{}",
                out.display(),
                build.tag
            )),
            Kind::Buildctl => {
                self.build_with_buildctl(bench, build, &mut command);
                command.arg("--output").arg(format!(
                    "type=docker,name={},dest={}",
                    build.tag,
                    out.display()
                ))
            }
            Kind::Skopeo => command
                .arg(layout(build.store))
                .arg(format!("docker-archive:{}", out.display())),
        };
        command
    }

    /// Gives an image to its store: by building it, or, for one that builds nothing, by having `rbuild`
    /// build it.
    pub(crate) fn obtain(&self, bench: &Bench, build: &Build<'_>) -> Result<()> {
        if self.builds() {
            return measure::run(&self.build(bench, build));
        }
        fs::create_dir_all(build.store)?;
        let mut command = Command::new(&bench.rbuild);
        command
            .env("RBUILD_ROOT", build.store.join("rbuild"))
            .args(["build", "-q", "-o"])
            .arg(format!(
                "type=oci,tar=false,dest={}",
                build.store.join("layout").display()
            ))
            .arg("-f")
            .arg(build.dockerfile)
            .arg(build.context);
        measure::run(&command)
    }

    /// The command that writes the image of `build`, obtained before, with its layers packed.
    pub(crate) fn pack(&self, bench: &Bench, build: &Build<'_>, out: &Path, with: &str) -> Command {
        let archive = format!("oci-archive:{}", out.display());
        if self.kind == Kind::Rbuild {
            let mut command = self.build(bench, build);
            let out = out.display();
            // Its options may stand behind the context.
            command.arg(format!("--output=type=oci,dest={out},compression={with}"));
            return command;
        }
        let mut command = self.command(build.store);
        match self.kind {
            Kind::Skopeo => command
                .args(["--dest-compress-format", with, "--dest-compress"])
                .args([layout(build.store), archive]),
            _ => command
                .args(["push", "-q", "--compression-format", with, build.tag])
                .arg(archive),
        };
        command
    }

    /// The command that gives the image of `build` to a registry on loopback.
    pub(crate) fn push(&self, build: &Build<'_>, name: &str) -> Command {
        let mut command = self.command(build.store);
        match self.kind {
            Kind::Rbuild => command.args(["push", "-q", name]),
            Kind::Skopeo => command
                .arg("--dest-tls-verify=false")
                .args([layout(build.store), format!("docker://{name}")]),
            _ => command
                .args(["push", "-q", "--tls-verify=false", build.tag])
                .arg(format!("docker://{name}")),
        };
        command
    }

    /// The command that takes an image of a registry on loopback into an empty store.
    pub(crate) fn pull(&self, store: &Path, name: &str) -> Command {
        let mut command = self.command(store);
        match self.kind {
            Kind::Rbuild => command.args(["pull", "-q", name]),
            Kind::Skopeo => command
                .args(["--src-tls-verify=false", &format!("docker://{name}")])
                .arg(format!("oci:{}", store.display())),
            _ => command.args(["pull", "-q", "--tls-verify=false", name]),
        };
        command
    }

    /// Does it work here at all?
    fn trial(&self, bench: &Bench, at: usize) -> Result<()> {
        if !self.builds() {
            return Ok(());
        }
        let place = bench.place("trial", self.name).join(at.to_string());
        let context = place.join("context");
        fs::create_dir_all(&context)?;
        let dockerfile = place.join("Dockerfile");
        fs::write(&dockerfile, format!("FROM {}\nRUN true\n", self.base()))?;
        let store = place.join("store");
        self.import(&store, &bench.base)?;
        let build = Build {
            store: &store,
            context: &context,
            dockerfile: &dockerfile,
            tag: "bench-trial",
            args: &[],
            cold: true,
        };
        measure::run(&self.build(bench, &build))?;
        // Only podman's ways differ in how they run.
        if self.kind == Kind::Podman {
            measure::run(&self.run_true(&store))?;
        }
        Ok(())
    }

    /// Whether the daemon it needs answers.
    fn is_served(&self) -> Result<()> {
        let question: &[&str] = match self.kind {
            Kind::Rbuild | Kind::Buildah | Kind::Podman | Kind::Skopeo => return Ok(()),
            Kind::Docker => &["version", "--format", "{{.Server.Version}}"],
            Kind::Buildctl => &["debug", "workers"],
        };
        let answer = Command::new(&self.program).args(question).output()?;
        if !answer.status.success() {
            bail!(
                "its daemon does not answer: {}",
                String::from_utf8_lossy(&answer.stderr).trim()
            );
        }
        Ok(())
    }

    fn command(&self, store: &Path) -> Command {
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Rbuild => {
                command.env("RBUILD_ROOT", store);
            }
            Kind::Buildah | Kind::Podman => {
                let mut name = DefaultHasher::new();
                store.hash(&mut name);
                let state = self.state.join(format!("{:08x}", name.finish() >> 32));
                command
                    .arg("--root")
                    .arg(store.join("storage"))
                    .arg("--runroot")
                    .arg(state);
                command
                    .args(["--cgroup-manager", "cgroupfs"])
                    .args(self.way.storage);
            }
            Kind::Skopeo => {
                command.args(["--insecure-policy", "copy", "-q"]);
            }
            Kind::Docker | Kind::Buildctl => {}
        }
        command
    }

    fn import_with_buildah(&self, store: &Path, tar: &Path) -> Result<()> {
        let buildah = |arguments: &[&str]| {
            let mut command = self.command(store);
            command.args(arguments);
            measure::run(&command)
        };
        let tar = tar
            .to_str()
            .context("the path of the base image is not text")?;
        buildah(&["from", "--name", "bench-import", "scratch"])?;
        buildah(&["add", "-q", "bench-import", tar, "/"])?;
        buildah(&["config", "--cmd", "/bin/sh", "bench-import"])?;
        buildah(&["commit", "-q", "bench-import", self.base()])?;
        buildah(&["rm", "bench-import"])
    }

    /// BuildKit has no image store to import to: the base comes as a named context.
    fn build_with_buildctl(&self, bench: &Bench, build: &Build<'_>, command: &mut Command) {
        let folder = build.dockerfile.parent().unwrap_or(build.context);
        let file = build.dockerfile.file_name().unwrap_or_default();
        let local = |name: &str, path: &Path| format!("{name}={}", path.display());
        command.args(["build", "--progress=plain", "--frontend", "dockerfile.v0"]);
        command.args([
            "--local",
            &local("context", build.context),
            "--local",
            &local("dockerfile", folder),
        ]);
        command.args(["--local", &local("base", &bench.base_directory)]);
        command.args([
            "--opt",
            &format!("context:{BASE}=local:base"),
            "--opt",
            "force-network-mode=none",
        ]);
        command
            .arg("--opt")
            .arg(format!("filename={}", file.display()));
        for arg in build.args {
            command.args(["--opt", &format!("build-arg:{arg}")]);
        }
        if build.cold {
            command.arg("--no-cache");
        }
    }
}

/// The image of a store without a builder, as skopeo knows it.
fn layout(store: &Path) -> String {
    format!("oci:{}", store.join("layout").display())
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|it| it.join(name))
        .find(|it| it.is_file())
}

fn version(program: &Path) -> Result<String> {
    let answer = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let first = text.lines().next().unwrap_or_default();
    let number = first.split_whitespace().find(|it| {
        it.trim_start_matches('v')
            .starts_with(|c: char| c.is_ascii_digit())
    });
    Ok(number
        .unwrap_or("version unknown")
        .trim_end_matches(',')
        .to_owned())
}
