//! Layers that are at a registry before the build is over, as the reference registry sees it.

use std::process::Child;
use std::time::Duration;

use kit::docker_registry::{Access, Server};
use kit::proxy::{Proxy, What};
use kit::rbuild::{Rbuild, finish, run, signal};
use kit::web::{Page, Web};
use rustix::process::Signal;

use super::{RBUILD, rbuild};

/// A registry, and a page that steps wait for.
struct Scene {
    server: Server,
    web: Web,
    rbuild: Rbuild,
    name: String,
}

impl Scene {
    fn new() -> Self {
        let server = Server::start(Access::Everybody);
        let name = format!("{}/ahead:v1", server.address());
        Self {
            server,
            web: Web::start().unwrap(),
            rbuild: rbuild(),
            name,
        }
    }

    /// A step that is over when [`Scene::go`] says so.
    fn waits(&self, then: &str) -> String {
        format!(
            "RUN --network=host until busybox wget -q -O /answer {}; do sleep 0.1; done; {then}\n",
            self.web.url("/go")
        )
    }

    fn go(&self) {
        self.web.put("/go", Page::new("go"));
    }

    /// Begins a build whose image goes to `name`.
    fn begin(&self, dockerfile: &str, name: &str, more: &[&str]) -> Child {
        self.rbuild.write("Dockerfile", dockerfile);
        let words = ["build", "--allow=network.host", "-t", name, "--push"];
        let words = words.iter().chain(more).chain(&["."]);
        self.rbuild.command(words).spawn().unwrap()
    }

    /// What was sent to the end since `before` requests.
    fn sent_since(&self, before: usize) -> usize {
        let requests = self.server.requests().into_iter().skip(before);
        let is_put = |it: &String| it.starts_with("PUT /v2/ahead/blobs/");
        requests.filter(is_put).count()
    }

    /// Waits until so many blobs are there.
    fn wait_for(&self, blobs: usize) {
        wait_until(|| self.server.blobs().len() >= blobs);
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn layers_are_at_the_registry_before_the_next_step_is_over_as_root() {
    let scene = Scene::new();
    let dockerfile = format!("FROM busybox\nRUN echo one > /one\n{}", scene.waits("true"));
    let building = scene.begin(&dockerfile, &scene.name, &["-q"]);
    // That of the base, and that of the first step.
    scene.wait_for(2);
    assert!(scene.server.tags("ahead").is_empty());
    scene.go();
    finish(building).unwrap().success();
    assert_eq!(
        scene.sent_since(0),
        4,
        "three layers and the config, each once"
    );
    let looked = |it: &String| it.starts_with("HEAD /v2/ahead/blobs/");
    let looked = scene
        .server
        .requests()
        .iter()
        .filter(|it| looked(it))
        .count();
    assert_eq!(looked, 4, "each is asked for once");
    let other = Rbuild::new(RBUILD);
    let said = other.run(["run", "--rm", &scene.name, "cat", "/one", "/answer"]);
    assert_eq!(said.success().stdout, "one\ngo");

    // What is cached is sent ahead, too: to another name, of which nothing is there.
    let more = format!("{dockerfile}{}", scene.waits("true").replace("/go", "/on"));
    let name = scene.name.replace("ahead", "other");
    let building = scene.begin(&more, &name, &["-q"]);
    wait_until(|| {
        let has = |it: &&String| it.starts_with("POST /v2/other/blobs/uploads/");
        scene.server.requests().iter().filter(has).count() == 3
    });
    scene.web.put("/on", Page::new("on"));
    finish(building).unwrap().success();
    assert_eq!(scene.server.tags("other"), ["v1"]);

    // Once more, nothing is sent at all.
    let before = scene.server.requests().len();
    finish(scene.begin(&dockerfile, &scene.name, &["-q"]))
        .unwrap()
        .success();
    assert_eq!(scene.sent_since(before), 0);
}

#[test]
fn a_build_that_fails_has_sent_layers_and_no_image_as_root() {
    let scene = Scene::new();
    let steps = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n";
    let dockerfile = format!("{steps}{}", scene.waits("exit 3"));
    let building = scene.begin(&dockerfile, &scene.name, &[]);
    scene.wait_for(3);
    scene.go();
    let failed = finish(building).unwrap().failure(1);
    assert!(failed.stderr.contains("exit code: 3"), "{}", failed.stderr);
    let is_manifest = |it: &&String| it.contains("/manifests/");
    assert!(scene.server.requests().iter().find(is_manifest).is_none());
    assert!(scene.server.tags("ahead").is_empty());
    assert_eq!(scene.server.uploads("ahead"), 0);

    // Mended, it sends what is new.
    let before = scene.server.requests().len();
    let mended = format!("{steps}RUN echo three > /three\n");
    finish(scene.begin(&mended, &scene.name, &["-q"]))
        .unwrap()
        .success();
    assert_eq!(scene.sent_since(before), 2, "a layer and the config");
    assert_eq!(scene.server.tags("ahead"), ["v1"]);
}

#[test]
fn an_interrupt_ends_what_is_sent_ahead_as_root() {
    let scene = Scene::new();
    let proxy = Proxy::start(scene.server.address());
    // Nobody says whether any part of the layers has arrived.
    proxy.trouble("PUT /v2/ahead/blobs/", 99, What::Stalls(0));
    let name = format!("{}/ahead:v1", proxy.address());
    let dockerfile = format!("FROM busybox\nRUN echo one > /one\n{}", scene.waits("true"));
    let building = scene.begin(&dockerfile, &name, &[]);
    wait_until(|| proxy.left() <= 97);
    let asked = |it: &kit::web::Asked| it.path == "/go";
    wait_until(|| scene.web.asked().iter().any(asked));
    signal(&building, Signal::INT).unwrap();
    // A minute, as a silent registry may be given, is too long: it would be killed then.
    finish(building).unwrap().failure(130);
    assert!(scene.server.tags("ahead").is_empty());
    let left = std::fs::read_dir(scene.rbuild.root().join("tmp")).unwrap();
    assert_eq!(left.count(), 0, "what was under way in the store is gone");
}

#[test]
fn an_interrupt_ends_a_push_to_a_registry_that_is_silent_as_root() {
    // While what was sent ahead is waited for, and when only the name is missing.
    for request in ["PUT /v2/ahead/blobs/", "PUT /v2/ahead/manifests/"] {
        let scene = Scene::new();
        let proxy = Proxy::start(scene.server.address());
        proxy.trouble(request, 99, What::Stalls(0));
        let name = format!("{}/ahead:v1", proxy.address());
        let building = scene.begin("FROM busybox\nRUN echo one > /one\n", &name, &[]);
        wait_until(|| proxy.left() <= 98);
        signal(&building, Signal::INT).unwrap();
        finish(building).unwrap().failure(130);
        let left = std::fs::read_dir(scene.rbuild.root().join("tmp")).unwrap();
        assert_eq!(left.count(), 0, "what was under way in the store is gone");
    }
}

#[test]
fn what_is_sent_ahead_is_told_of_as_a_vertex_of_its_own_as_root() {
    let scene = Scene::new();
    let dockerfile = format!("FROM busybox\nRUN echo one > /one\n{}", scene.waits("true"));
    let building = scene.begin(&dockerfile, &scene.name, &["--progress=plain"]);
    scene.wait_for(2);
    scene.go();
    let told = finish(building).unwrap().success().stderr;
    let (vertex, _) = moved(&told).next().unwrap_or_default();
    let has = |end: &str| told.lines().any(|it| it == format!("{vertex} {end}"));
    assert!(has(&format!("pushing layers for {}", scene.name)), "{told}");
    let whole = moved(&told).filter(|it| it.0 == vertex && it.1.ends_with(" done"));
    assert_eq!(whole.count(), 3, "{told}");
    let ends = format!("{vertex} DONE ");
    assert!(told.lines().any(|it| it.starts_with(&ends)), "{told}");

    // What is there already is not told of again.
    let building = scene.begin(&dockerfile, &scene.name, &["--progress=plain"]);
    let told = finish(building).unwrap().success().stderr;
    assert_eq!(moved(&told).count(), 0, "{told}");
}

/// What is told of blobs in plain output: the number of the vertex, and the rest of the line.
fn moved(told: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = told.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(_, it)| it.starts_with("sha256:"))
}

#[test]
fn a_layer_with_a_secret_is_not_sent_ahead_as_root() {
    let scene = Scene::new();
    scene.rbuild.write("token", "correct-horse-battery-staple");
    let dockerfile = format!(
        "FROM busybox\nRUN --mount=type=secret,id=token cp /run/secrets/token /leak\nRUN echo two > /two\n{}",
        scene.waits("true")
    );
    let building = scene.begin(&dockerfile, &scene.name, &["--secret=id=token,src=token"]);
    scene.wait_for(2);
    scene.go();
    let refused = finish(building).unwrap().failure(1);
    assert!(refused.stderr.contains("/leak"), "{}", refused.stderr);
    let look = "for blob; do gzip -dc \"$blob\" | grep -c horse; done";
    let mut look = scene.rbuild.shell(look);
    let counts = run(look.arg("look").args(scene.server.blobs())).stdout;
    assert!(counts.lines().count() >= 2, "{counts}");
    assert!(counts.lines().all(|it| it == "0"), "{counts}");
    assert!(scene.server.tags("ahead").is_empty());
}

#[test]
fn a_registry_that_refuses_is_told_of_once_and_at_the_end_as_root() {
    let scene = Scene::new();
    let proxy = Proxy::start(scene.server.address());
    proxy.trouble("POST /v2/ahead/blobs/", 99, What::Answers("403 -"));
    let name = format!("{}/ahead:v1", proxy.address());
    let dockerfile = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n";
    let refused = finish(scene.begin(dockerfile, &name, &["-q"]))
        .unwrap()
        .failure(1);
    assert_eq!(
        refused.stderr.matches("denied").count(),
        1,
        "{}",
        refused.stderr
    );
    // All that could be built is.
    let built = scene
        .rbuild
        .run(["run", "--rm", &name, "cat", "/one", "/two"]);
    assert_eq!(built.success().stdout, "one\ntwo\n");
}
