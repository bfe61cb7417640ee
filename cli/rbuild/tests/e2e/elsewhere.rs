//! Caches elsewhere: two stores are two machines, and between them is a registry, a directory or an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kit::docker_registry::{Access, Server};
use kit::rbuild::{Output, Rbuild, finish, signal};
use rustix::process::Signal;

use super::{RBUILD, builds::verdicts, rbuild};

/// The steps that build something, in two stages.
const STEPS: &str =
    "WORKDIR /src\nRUN echo tools > /tools\nCOPY main.c .\nRUN cat main.c /tools > out\n";

/// A registry with a base image, and two machines that have nothing but the same context.
struct World {
    server: Server,
    base: String,
    machines: [Rbuild; 2],
}

impl World {
    fn new() -> Self {
        let server = Server::start(Access::Everybody);
        let base = format!("{}/lib/base:v1", server.address());
        let owner = rbuild();
        owner.run(["tag", "busybox", &base]).success();
        owner.run(["push", "-q", &base]).success();
        let world = Self {
            server,
            base,
            machines: [Rbuild::new(RBUILD), Rbuild::new(RBUILD)],
        };
        world.write_dockerfile(&format!(
            "FROM BASE AS build\n{STEPS}FROM BASE\nCOPY --from=build /src/out /app\n"
        ));
        world.write("main.c", "int main;\n");
        world
    }

    /// `BASE` stands for the base image.
    fn write_dockerfile(&self, text: &str) {
        self.write("Dockerfile", &text.replace("BASE", &self.base));
    }

    fn write(&self, path: &str, text: &str) {
        for machine in &self.machines {
            machine.write(path, text);
        }
    }

    fn cache(&self) -> String {
        format!("{}/cache:main", self.server.address())
    }

    fn export(&self, more: &str) -> String {
        format!(
            "--cache-to=type=registry,ref={},mode=max{more}",
            self.cache()
        )
    }

    fn import(&self) -> String {
        format!("--cache-from={}", self.cache())
    }

    fn build(&self, machine: usize, more: &[&str]) -> Output {
        let line = ["build", "--progress=plain", "--iidfile=id", "."];
        self.machines[machine].run(line.iter().chain(more))
    }

    fn image(&self, machine: usize) -> String {
        fs::read_to_string(self.machines[machine].work().join("id")).unwrap()
    }

    /// What was asked of the registry about caches since `before`.
    fn asked(&self, before: usize) -> Vec<String> {
        let requests = self.server.requests().into_iter().skip(before);
        requests.filter(|it| it.contains(" /v2/cache/")).collect()
    }

    fn requests(&self) -> usize {
        self.server.requests().len()
    }
}

fn count(requests: &[String], word: &str) -> usize {
    requests.iter().filter(|it| it.contains(word)).count()
}

/// The steps that were cached and those that ran.
fn steps(output: &Output) -> (Vec<String>, Vec<String>) {
    verdicts(&output.stderr)
}

#[test]
fn another_machine_finds_every_step_and_fetches_what_it_needs_as_root() {
    let world = World::new();
    world.build(0, &[&world.export("")]).success();
    assert_eq!(steps(&world.build(0, &[])).0.len(), 5);

    let before = world.requests();
    let built = world.build(1, &[&world.import(), "--output=type=cacheonly"]);
    let (cached, ran) = steps(&built.success());
    assert_eq!((cached.len(), ran.len()), (5, 0), "{cached:?} {ran:?}");
    let asked = world.asked(before);
    assert_eq!(
        count(&asked, "GET /v2/cache/manifests/main"),
        1,
        "{asked:?}"
    );
    assert_eq!(
        count(&asked, "GET /v2/cache/blobs/"),
        1,
        "the catalog: {asked:?}"
    );

    let before = world.requests();
    world.build(1, &[&world.import()]).success();
    let asked = world.asked(before);
    let catalog_and_layers = 1 + 2;
    assert_eq!(count(&asked, "/blobs/"), catalog_and_layers, "{asked:?}");
    assert_eq!(
        world.image(0),
        world.image(1),
        "the same result is the same image"
    );

    let before = world.requests();
    let built = world.build(1, &[]).success();
    assert_eq!(steps(&built).0.len(), 5, "what came is in the store");
    assert_eq!(world.asked(before), [""; 0]);
}

#[test]
fn what_stands_on_an_edit_runs_on_layers_from_the_cache_as_root() {
    let world = World::new();
    world.build(0, &[&world.export("")]).success();
    world.write("main.c", "int main; // edited\n");
    let built = world
        .build(1, &[&world.import(), &world.export("")])
        .success();
    let (cached, ran) = steps(&built);
    assert_eq!((cached.len(), ran.len()), (2, 3), "{cached:?} {ran:?}");
    assert!(
        cached
            .iter()
            .all(|it| it.contains("WORKDIR") || it.contains("RUN echo"))
    );
    let run = world.machines[1].run(["run", "--rm", &world.image(1), "cat", "/app"]);
    assert_eq!(run.success().stdout, "int main; // edited\ntools\n");
    // The first machine has an older edit, and finds the newer one's steps.
    let built = world.build(0, &[&world.import()]).success();
    assert_eq!(steps(&built).0.len(), 5);
    assert_eq!(world.image(0), world.image(1));
}

#[test]
fn what_is_there_is_not_sent_again_as_root() {
    let world = World::new();
    world.build(0, &[&world.export("")]).success();
    for machine in [0, 1] {
        let before = world.requests();
        world
            .build(machine, &[&world.import(), &world.export("")])
            .success();
        let asked = world.asked(before);
        let writing = |it: &&String| !it.starts_with("GET") && !it.starts_with("HEAD");
        assert_eq!(asked.iter().find(writing), None, "{asked:?}");
    }
    // A cached build knows of the steps below the one it found, too.
    world.write("main.c", "int main; // edited\n");
    let built = world.build(1, &[&world.import(), "--output=type=cacheonly"]);
    assert_eq!(steps(&built.success()).0.len(), 2);
}

#[test]
fn a_build_that_fails_shares_what_it_made_and_takes_nothing_away_as_root() {
    let world = World::new();
    world.build(0, &[&world.export("")]).success();
    world.write_dockerfile("FROM BASE\nRUN echo new > /new\nRUN exit 7\n");
    world.build(0, &[&world.export("")]).failure(1);

    let built = world.build(1, &[&world.import()]).failure(1);
    let (cached, _) = steps(&built);
    assert_eq!(cached.len(), 1, "{}", built.stderr);
    world.write_dockerfile(&format!("FROM BASE\n{STEPS}"));
    let built = world.build(1, &[&world.import()]).success();
    assert_eq!(steps(&built).0.len(), 4, "{}", built.stderr);
}

#[test]
fn a_step_is_sent_while_the_next_one_runs_and_an_interrupt_names_nothing_as_root() {
    let world = World::new();
    world.write_dockerfile(
        "FROM BASE\nRUN echo early > /early\nRUN --mount=type=bind,target=/ctx until [ -e /ctx/go ]; do usleep 10000; done\n",
    );
    let before = world.requests();
    let export = world.export("");
    let mut command = world.machines[0].command(["build", "--progress=plain", &export, "."]);
    let child = command.spawn().unwrap();
    let sent = |count_wanted: usize| {
        let since = Instant::now();
        while count(&world.asked(before), "PUT /v2/cache/blobs/uploads/") < count_wanted {
            assert!(since.elapsed() < Duration::from_secs(50), "nothing is sent");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    sent(2);
    signal(&child, Signal::INT).unwrap();
    let ended = finish(child).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", ended.transcript());
    let built = world.build(1, &[&world.import(), "--call=check"]);
    built.success();
    world.write("go", "");
    let built = world.build(1, &[&world.import()]).success();
    assert!(
        built
            .stderr
            .contains(&format!("{}: not found", world.cache())),
        "{}",
        built.stderr
    );
}

#[test]
fn the_least_export_has_the_results_own_layers_as_root() {
    let world = World::new();
    let export = format!("--cache-to={}", world.cache());
    world.build(0, &[&export]).success();
    let built = world.build(1, &[&world.import()]).success();
    assert_eq!(
        steps(&built).0.len(),
        5,
        "the result is found: {}",
        built.stderr
    );
    world.write("main.c", "int main; // edited\n");
    let built = world.build(1, &[&world.import()]).success();
    assert_eq!(
        steps(&built).0.len(),
        0,
        "what it was made from is not: {}",
        built.stderr
    );
}

#[test]
fn layers_are_packed_as_asked_for_as_root() {
    let world = World::new();
    let shared = world.machines[0].home().join("cache");
    for (packing, magic) in [
        ("uncompressed", &b"./"[..]),
        ("zstd,compression-level=9", &[0x28, 0xb5, 0x2f, 0xfd]),
        ("gzip,oci-mediatypes=false", &[0x1f, 0x8b]),
    ] {
        let export = format!(
            "--cache-to=type=local,dest={},tag=t,force-compression=true,compression={packing}",
            shared.display()
        );
        world.build(0, &[&export]).success();
        let manifest = manifest_of(&shared, "t");
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2);
        let layer = fs::read(blob(&shared, &layers[1]["digest"])).unwrap();
        let starts = layer.starts_with(magic) || magic == b"./";
        assert!(starts, "{packing}: {:?}", &layer[..8]);
        let import = format!("--cache-from=type=local,src={},tag=t", shared.display());
        let fresh = Rbuild::new(RBUILD);
        for name in ["Dockerfile", "main.c"] {
            fresh.write(name, fs::read(world.machines[0].work().join(name)).unwrap());
        }
        let built = fresh.run(["build", "--progress=plain", "--iidfile=id", &import, "."]);
        assert_eq!(steps(&built.success()).0.len(), 5, "{packing}");
        let image = fs::read_to_string(fresh.work().join("id")).unwrap();
        assert_eq!(image, world.image(0), "{packing}");
    }
}

/// The manifest that an OCI layout has under a name.
fn manifest_of(layout: &Path, tag: &str) -> serde_json::Value {
    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let index = read(&layout.join("index.json"));
    let manifests = index["manifests"].as_array().unwrap();
    let name = |it: &&serde_json::Value| {
        it["annotations"]["org.opencontainers.image.ref.name"].as_str() == Some(tag)
    };
    let entry = manifests.iter().find(name).unwrap();
    read(&blob(layout, &entry["digest"]))
}

fn blob(layout: &Path, digest: &serde_json::Value) -> PathBuf {
    let digest = digest.as_str().unwrap();
    layout
        .join("blobs/sha256")
        .join(digest.strip_prefix("sha256:").unwrap())
}

#[test]
fn a_damaged_cache_never_gives_a_wrong_result_as_root() {
    let world = World::new();
    let shared = world.machines[0].home().join("cache");
    let export = format!("--cache-to=type=local,dest={},mode=max", shared.display());
    world.build(0, &[&export]).success();
    let blobs = shared.join("blobs/sha256");
    let all: Vec<PathBuf> = fs::read_dir(&blobs)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    assert!(all.len() >= 8);
    let import = format!("--cache-from=type=local,src={}", shared.display());
    for (number, path) in all.iter().enumerate() {
        let whole = fs::read(path).unwrap();
        match number % 3 {
            0 => fs::remove_file(path).unwrap(),
            1 => fs::write(path, &whole[..whole.len() / 2]).unwrap(),
            _ => {
                let mut other = whole.clone();
                let middle = other.len() / 2;
                other[middle] ^= 0x55;
                fs::write(path, other).unwrap();
            }
        }
        let fresh = Rbuild::new(RBUILD);
        for name in ["Dockerfile", "main.c"] {
            fresh.write(name, fs::read(world.machines[0].work().join(name)).unwrap());
        }
        let built = fresh.run(["build", "-q", "--iidfile=id", &import, "."]);
        let image = fs::read_to_string(fresh.work().join("id")).unwrap_or_default();
        let run = fresh.run(["run", "--rm", &image, "cat", "/app"]);
        assert_eq!(
            run.stdout,
            "int main;\ntools\n",
            "{}\n{}",
            path.display(),
            built.transcript()
        );
        fs::write(path, &whole).unwrap();
    }
}

#[test]
fn an_image_has_its_cache_with_it_as_root() {
    let world = World::new();
    world.write_dockerfile(&format!("FROM BASE\n{STEPS}"));
    let app = format!("{}/app:1", world.server.address());
    world
        .build(0, &["--cache-to=type=inline", "-t", &app])
        .success();
    world.machines[0].run(["push", "-q", &app]).success();
    let import = format!("--cache-from={app}");
    let built = world
        .build(1, &[&import, "--cache-to=type=inline"])
        .success();
    assert_eq!(steps(&built).0.len(), 4, "{}", built.stderr);
    world.write("main.c", "int main; // edited\n");
    let built = world.build(1, &[&import]).success();
    assert_eq!(steps(&built).0.len(), 2, "{}", built.stderr);
    let built = world
        .build(1, &[&format!("--cache-from={}", world.base)])
        .success();
    let why = "is no cache of rbuild: it is an image without a cache in it";
    assert!(built.stderr.contains(why), "{}", built.stderr);
}

#[test]
fn a_cache_that_cannot_be_written_fails_the_build_unless_that_is_ignored_as_root() {
    let world = World::new();
    let nobody = kit::docker_registry::free_address();
    let export = format!("--cache-to=type=registry,ref={nobody}/x:y");
    let built = world.build(0, &[&export]).failure(1);
    let why = format!("failed to export cache to {nobody}/x:y: cannot reach `127.0.0.1`");
    assert!(built.stderr.contains(&why), "{}", built.stderr);
    let built = world
        .build(0, &[&format!("{export},ignore-error=true")])
        .success();
    assert!(
        built
            .stderr
            .contains("the cache was not exported: cannot reach"),
        "{}",
        built.stderr
    );
}

#[test]
fn a_bucket_keeps_a_cache_whatever_the_size_of_its_layers_as_root() {
    let server = kit::s3::Server::start();
    let world = World::new();
    // More than goes in one part of an upload, and nothing that would pack.
    world.write_dockerfile(&format!(
        "FROM BASE\n{STEPS}RUN head -c 20000000 /dev/urandom > /large\n"
    ));
    let place = format!(
        "type=s3,bucket={},region={},endpoint_url={},prefix=ci/,name=main",
        kit::s3::BUCKET,
        kit::s3::REGION,
        server.endpoint()
    );
    let keys = format!(
        "access_key_id={},secret_access_key={}",
        kit::s3::ACCESS_KEY_ID,
        kit::s3::SECRET_ACCESS_KEY
    );
    let wrong = format!("{keys}-not");
    let refused = world.build(0, &[&format!("--cache-from={place},{wrong}")]);
    let refused = refused.success().stderr;
    assert!(
        refused.contains("the server answers 403: SignatureDoesNotMatch"),
        "{refused}"
    );

    world
        .build(0, &[&format!("--cache-to={place};later,{keys},mode=max")])
        .success();
    let import = format!("--cache-from={place},{keys}");
    let built = world.build(1, &[&import]).success();
    assert_eq!(steps(&built).0.len(), 5, "{}", built.stderr);
    assert_eq!(world.image(0), world.image(1));

    // From the environment, and nothing is sent again.
    let line = ["build", "--progress=plain", "."];
    let export = format!("--cache-to={place},mode=max");
    let mut again = world.machines[0].command(line.iter().chain([&&*export]));
    again
        .env("AWS_ACCESS_KEY_ID", kit::s3::ACCESS_KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", kit::s3::SECRET_ACCESS_KEY);
    let again = kit::rbuild::run(&mut again).success().stderr;
    let sent = again
        .lines()
        .filter(|it| it.contains("writing ") && it.contains(" / "));
    assert_eq!(sent.count(), 0, "{again}");
}

/// A step that compiles sources into a cache mount, one file each, as cargo and make do: what is newer
/// than its result is made anew.
const COMPILE: &str = "FROM BASE\nCOPY src /src\nRUN --mount=type=cache,target=/t,id=objects cd /src; for f in *; do if [ ! -e /t/$f.o ] || [ $f -nt /t/$f.o ]; then head -c 40000 /dev/urandom > /t/$f.o; fi; done; cat /t/*.o > /all; md5sum /all\n";

#[test]
fn a_cache_mount_travels_and_an_edit_sends_what_changed_as_root() {
    let world = World::new();
    world.write_dockerfile(COMPILE);
    for number in 0..60 {
        world.write(&format!("src/{number}.c"), "int f;\n");
    }
    let export = world.export(",mounts=all");
    world.build(0, &[&export]).success();
    let files = |machine: usize| -> Vec<(String, Vec<u8>, std::time::SystemTime)> {
        let mounts = world.machines[machine].root().join("mounts");
        let mount = fs::read_dir(mounts)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let mut files: Vec<_> = fs::read_dir(mount)
            .unwrap()
            .map(|it| it.unwrap())
            .map(|it| {
                let name = it.file_name().into_string().unwrap();
                let modified = it.metadata().unwrap().modified().unwrap();
                (name, fs::read(it.path()).unwrap(), modified)
            })
            .collect();
        files.sort();
        files
    };
    let first = files(0);
    assert_eq!(first.len(), 60);

    // The other machine starts with what the first one has, and makes one object anew.
    let edit = world.machines[1].work().join("src/7.c");
    fs::write(&edit, "int f; // edited\n").unwrap();
    // The shell of the step sees no differences below a second.
    let later = std::time::SystemTime::now() + Duration::from_secs(3600);
    let file = fs::File::options().write(true).open(&edit).unwrap();
    file.set_modified(later).unwrap();
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for number in (0..60).filter(|it| *it != 7) {
        let path = world.machines[1].work().join(format!("src/{number}.c"));
        fs::File::open(path).unwrap().set_modified(old).unwrap();
    }
    let built = world.build(1, &[&world.import(), &export]).success();
    let second = files(1);
    let changed: Vec<&str> = first
        .iter()
        .zip(&second)
        .filter(|(first, second)| first != second)
        .map(|(first, _)| first.0.as_str())
        .collect();
    assert_eq!(changed, ["7.c.o"], "{}", built.stderr);
    let sent: u64 = built
        .stderr
        .lines()
        .filter(|it| it.contains("writing cache mount") && it.ends_with("done"))
        .filter_map(|it| it.split(" / ").nth(1)?.split(' ').next())
        .map(bytes)
        .sum();
    let all = 60 * 40_000;
    assert!(
        (40_000..all / 20).contains(&sent),
        "{sent} of {all} bytes were sent again\n{}",
        built.stderr
    );
}

/// `40.12kB` as bytes.
fn bytes(text: &str) -> u64 {
    let unit = text.trim_start_matches(|it: char| it.is_ascii_digit() || it == '.');
    let number: f64 = text[..text.len() - unit.len()].parse().unwrap();
    let factor = match unit {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        other => panic!("{other} is no unit"),
    };
    (number * factor) as u64
}
