//! The image commands on a store with three images.

use oci::{Config, History, ImageConfig, Reference};
use store::{ImageRecord, Store};

use super::{filter::Filters, history, inspect, ls, rm};
use crate::args::{HistoryArgs, LsArgs};

struct Fixture {
    store: Store,
    ids: Vec<oci::Digest>,
    _folder: tempfile::TempDir,
}

/// `app` with two tags and a label, `other` in two repositories, and one without a name.
fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let add = |age: i64, names: &[&str], label: Option<&str>| {
        let created = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(age);
        let entry = |created_by: &str, empty_layer| History {
            created: Some(created),
            created_by: created_by.to_owned(),
            comment: "buildkit.dockerfile.v0".into(),
            empty_layer,
            ..History::default()
        };
        let labels = label
            .map(|it| (it.to_owned(), "1".to_owned()))
            .into_iter()
            .collect();
        let config = ImageConfig {
            created: Some(created),
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            config: Config {
                labels,
                ..Config::default()
            },
            history: vec![
                entry("ADD rootfs.tar /", false),
                entry(
                    "CMD [\"a command that is longer than forty-five columns\"]",
                    true,
                ),
            ],
            ..ImageConfig::default()
        };
        let id = store.put_blob(&config.to_json()).unwrap();
        let record = ImageRecord {
            id,
            top: None,
            diff_ids: Vec::new(),
            manifest: None,
            created: Some(created),
            size: 4_200_000,
        };
        let names: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
        store.put_image(&record, &names).unwrap();
        id
    };
    let ids = vec![
        add(1, &["app:1", "app:2"], Some("mine")),
        add(72, &["other", "localhost:5000/other:x"], None),
        add(24 * 30, &[], None),
    ];
    Fixture {
        store,
        ids,
        _folder: folder,
    }
}

fn ls_args() -> LsArgs {
    LsArgs {
        repository: None,
        all: false,
        digests: false,
        filter: Vec::new(),
        format: None,
        no_trunc: false,
        quiet: false,
        tree: false,
    }
}

impl Fixture {
    /// Ids replaced by their position, so that they can be written down.
    fn stable(&self, text: &str) -> String {
        self.ids
            .iter()
            .enumerate()
            .fold(text.to_owned(), |text, (position, id)| {
                let full = text.replace(&id.to_string(), &format!("<sha256:{position}>"));
                full.replace(&id.short(), &format!("<{position}>         "))
            })
    }

    fn ls(&self, args: &LsArgs) -> String {
        match ls::list(&self.store, args) {
            Ok(text) => self.stable(&text),
            Err(fault) => fault.words(),
        }
    }

    fn names(&self, filters: &[&str]) -> String {
        let filter = filters.iter().map(|it| (*it).to_owned()).collect();
        let format = Some("{{.Repository}}:{{.Tag}}".to_owned());
        self.ls(&LsArgs {
            filter,
            format,
            ..ls_args()
        })
        .replace('\n', " ")
        .trim_end()
        .to_owned()
    }
}

#[test]
fn the_list_is_dockers() {
    let fixture = fixture();
    let expected = "\
REPOSITORY             TAG       IMAGE ID       CREATED             SIZE
app                    1         <0>            About an hour ago   4.2MB
app                    2         <0>            About an hour ago   4.2MB
other                  latest    <1>            3 days ago          4.2MB
localhost:5000/other   x         <1>            3 days ago          4.2MB
<none>                 <none>    <2>            4 weeks ago         4.2MB
";
    let shown = fixture.ls(&ls_args());
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&shown), sorted(expected), "{shown}");
}

#[test]
fn quiet_shows_each_id_once() {
    let fixture = fixture();
    assert_eq!(
        fixture
            .ls(&LsArgs {
                quiet: true,
                ..ls_args()
            })
            .replace(' ', ""),
        "<0>\n<1>\n<2>\n"
    );
    let full = fixture.ls(&LsArgs {
        quiet: true,
        no_trunc: true,
        ..ls_args()
    });
    assert_eq!(full, "<sha256:0>\n<sha256:1>\n<sha256:2>\n");
}

#[test]
fn json_has_dockers_fields() {
    let fixture = fixture();
    let args = LsArgs {
        format: Some("json".to_owned()),
        repository: Some("other".to_owned()),
        ..ls_args()
    };
    let row: serde_json::Value = serde_json::from_str(&fixture.ls(&args)).unwrap();
    let fields: Vec<&String> = row.as_object().unwrap().keys().collect();
    assert_eq!(fields.len(), 10);
    assert_eq!(
        (&row["Repository"], &row["Tag"], &row["CreatedSince"]),
        (&"other".into(), &"latest".into(), &"3 days ago".into())
    );
}

#[test]
fn filters_choose() {
    let fixture = fixture();
    let table: [(&[&str], &str); 12] = [
        (&["dangling=true"], "<none>:<none>"),
        (&["dangling=false", "reference=app"], "app:1 app:2"),
        (&["label=mine"], "app:1 app:2"),
        (&["label=mine=1"], "app:1 app:2"),
        (&["label=mine=2"], ""),
        (
            &["label!=mine", "dangling=false"],
            "localhost:5000/other:x other:latest",
        ),
        (
            &["before=app:1", "dangling=false"],
            "localhost:5000/other:x other:latest",
        ),
        (&["since=other"], "app:1 app:2"),
        (&["until=48h", "dangling=true"], "<none>:<none>"),
        (
            &["reference=*:2", "reference=*/*:x"],
            "app:2 localhost:5000/other:x",
        ),
        (
            &["nonsense=1"],
            "error: invalid filter 'nonsense' hint: known are dangling, label, label!, before, since, until and reference",
        ),
        (
            &["since=missing"],
            "error: No such image: missing hint: `rbuild images` lists what there is",
        ),
    ];
    for (filters, expected) in table {
        let mut shown: Vec<String> = fixture
            .names(filters)
            .split(' ')
            .map(str::to_owned)
            .collect();
        if !expected.starts_with("error") {
            shown.sort();
        }
        assert_eq!(shown.join(" "), expected, "{filters:?}");
    }
    assert!(Filters::parse(&fixture.store, &["x".to_owned()], None).is_err());
}

#[test]
fn history_begins_with_the_newest() {
    let fixture = fixture();
    let args = |no_trunc, human| HistoryArgs {
        image: "app:1".to_owned(),
        format: None,
        human,
        no_trunc,
        quiet: false,
    };
    let expected = "\
IMAGE          CREATED             CREATED BY                                      SIZE      COMMENT
<0>            About an hour ago   CMD [\"a command that is longer than forty-fi…   0B        buildkit.dockerfile.v0
<missing>      About an hour ago   ADD rootfs.tar /                                0B        buildkit.dockerfile.v0
";
    assert_eq!(
        fixture.stable(&history::list(&fixture.store, &args(false, true)).unwrap()),
        expected
    );
    let full = fixture.stable(&history::list(&fixture.store, &args(true, false)).unwrap());
    assert!(
        full.contains("<sha256:0>") && full.contains("forty-five columns"),
        "{full}"
    );
}

#[test]
fn inspect_has_dockers_fields() {
    let fixture = fixture();
    let image = fixture.store.resolve("app:2").unwrap();
    let document = inspect::document(&fixture.store, &image).unwrap();
    let fields: Vec<&str> = document
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected =
        "Id RepoTags RepoDigests Comment Created Config Architecture Os Size RootFS Metadata";
    assert_eq!(fields.join(" "), expected);
    assert_eq!(document["RepoTags"], serde_json::json!(["app:1", "app:2"]));
    assert_eq!(document["Config"]["Labels"]["mine"], "1");
    assert_eq!(document["Id"], fixture.ids[0].to_string());
}

#[test]
fn the_last_name_takes_the_image_with_it() {
    let fixture = fixture();
    let rm = |word: &str, force| match rm::remove(&fixture.store, word, force) {
        Ok(lines) => fixture.stable(&lines.concat()),
        Err(fault) => fixture.stable(&fault.words()),
    };
    assert_eq!(rm("app:1", false), "Untagged: app:1\n");
    assert_eq!(rm("app:2", false), "Untagged: app:2\nDeleted: <sha256:0>\n");
    assert_eq!(
        rm("app:2", false),
        "error: No such image: app:2\nhint: `rbuild images` lists what there is\n"
    );
    assert_eq!(rm("app:2", true), "");
    let other = fixture.ids[1].short();
    let conflict = "error: conflict: unable to delete <1> (must be forced) - image is referenced in multiple repositories\nhint: name one of them, or remove them all with -f\n";
    assert_eq!(rm(&other, false).replace("          (", " ("), conflict);
    assert!(rm(&other, true).ends_with("Deleted: <sha256:1>\n"));
    assert_eq!(
        rm(&fixture.ids[2].to_string(), false),
        "Deleted: <sha256:2>\n"
    );
    assert!(fixture.store.images().unwrap().is_empty());
}
