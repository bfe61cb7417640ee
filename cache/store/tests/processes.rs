//! Several processes on one store. The processes are this program, started again with a role.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on panics"
)]

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use oci::{Key, KeyHasher};
use serde_json::json;
use store::{NewSnapshot, Record, SnapshotId, Store};

const ROLE: &str = "STORE_TEST_ROLE";
const KEYS: usize = 60;

/// Speaks as much of the test harness's language as runners need: `--list`, and names to run.
fn main() {
    if let Ok(role) = env::var(ROLE) {
        return act(
            &role,
            Path::new(&env::args_os().nth(1).expect("the store's directory")),
        );
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|it| it == flag);
    let filter = arguments
        .iter()
        .find(|it| !it.starts_with('-') && *it != "terse");
    let check = |name: &str, test: fn(&Path)| {
        let is_meant = match filter {
            Some(filter) if has("--exact") => name == filter,
            Some(filter) => name.contains(filter.as_str()),
            None => true,
        };
        if has("--ignored") || !is_meant {
            return;
        }
        if has("--list") {
            return println!("{name}: test");
        }
        let root = tempfile::tempdir().unwrap();
        test(root.path());
        println!("test {name} ... ok");
    };
    check(
        "processes_that_want_one_key_produce_it_once",
        processes_that_want_one_key_produce_it_once,
    );
    check(
        "a_writer_killed_at_any_time_leaves_a_usable_store",
        a_writer_killed_at_any_time_leaves_a_usable_store,
    );
    check(
        "a_key_is_free_when_its_holder_is_killed",
        a_key_is_free_when_its_holder_is_killed,
    );
    check(
        "leases_and_work_end_with_the_process",
        leases_and_work_end_with_the_process,
    );
}

fn act(role: &str, root: &Path) {
    let store = Store::open(root).unwrap();
    match role {
        "produce" => produce(&store),
        "collect" => (0..40).for_each(|_| drop(store.gc().unwrap())),
        "write" => write_until_killed(&store),
        "hold" => {
            let _lock = store.lock_key(&key(0)).unwrap();
            let _work = store.tmp_dir().unwrap();
            let _lease = store.lease(&[SnapshotId(1)], &[]);
            say("held");
            std::thread::park();
        }
        other => panic!("no role `{other}`"),
    }
}

fn start(role: &str, root: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .arg(root)
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

fn key(number: usize) -> Key {
    let mut hasher = KeyHasher::new("test");
    hasher.number(number as u64);
    hasher.finish()
}

/// Commits and records what stands for `number`: a file that holds it many times.
fn make(store: &Store, number: usize) -> SnapshotId {
    let staged = store.tmp_dir().unwrap();
    fs::create_dir(staged.path().join("fs")).unwrap();
    fs::write(staged.path().join("fs/file"), content(number)).unwrap();
    let new = NewSnapshot {
        parent: None,
        diff_id: None,
        chain_id: None,
        content: key(number),
        tree_root: key(number),
        size: 1,
    };
    let id = store.commit_snapshot(staged.path(), &new).unwrap();
    store.put_blob(content(number).as_bytes()).unwrap();
    let record = Record {
        key: key(number),
        kind: "definition".to_owned(),
        preimage: json!(number),
        outputs: vec![Some(id)],
        name: "step".to_owned(),
        started: Timestamp::now(),
        duration: Duration::ZERO,
        project: String::new(),
        made: None,
        spent: None,
    };
    store.record(&record).unwrap();
    id
}

fn content(number: usize) -> String {
    format!("{number}\n").repeat(100)
}

fn check_result(store: &Store, number: usize) {
    let cached = store
        .result(&key(number))
        .unwrap()
        .expect("it was recorded");
    let id = cached.outputs[0].expect("it is no scratch");
    assert_eq!(
        fs::read_to_string(store.snapshot_fs(id).join("file")).unwrap(),
        content(number)
    );
}

/// Every worker walks all keys, each from another place, as builds of one Dockerfile would.
fn produce(store: &Store) {
    let offset = std::process::id() as usize;
    for number in (0..KEYS).map(|number| (number + offset) % KEYS) {
        let lock = store.lock_key(&key(number)).unwrap();
        if store.result(&key(number)).unwrap().is_none() {
            make(store, number);
            let made = store.root().join("made");
            writeln!(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(made)
                    .unwrap(),
                "{number}"
            )
            .unwrap();
        }
        drop(lock);
        check_result(store, number);
    }
}

fn processes_that_want_one_key_produce_it_once(root: &Path) {
    // The store does not exist yet: creating it is part of the race.
    let roles = [
        "produce", "produce", "collect", "produce", "produce", "collect",
    ];
    let workers: Vec<_> = roles.iter().map(|role| start(role, root)).collect();
    for mut worker in workers {
        assert!(worker.wait().unwrap().success());
    }
    let mut times = BTreeMap::new();
    for line in fs::read_to_string(root.join("made")).unwrap().lines() {
        *times.entry(line.parse::<usize>().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(times, (0..KEYS).map(|number| (number, 1)).collect());
    let store = Store::open(root).unwrap();
    (0..KEYS).for_each(|number| check_result(&store, number));
    assert_eq!(
        fs::read_dir(root.join("tmp")).unwrap().count(),
        0,
        "no work is left"
    );
    assert_eq!(
        fs::read_dir(root.join("locks")).unwrap().count(),
        0,
        "no lock is left"
    );
}

fn write_until_killed(store: &Store) {
    for number in (std::process::id() as usize * 10_000).. {
        make(store, number);
        say(&number.to_string());
    }
}

fn a_writer_killed_at_any_time_leaves_a_usable_store(root: &Path) {
    let mut written = Vec::new();
    for round in 1..=12 {
        let mut writer = start("write", root);
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // Killed in the middle of whatever it does after so many commits.
        written.extend(
            lines
                .by_ref()
                .take(round * 3)
                .map(|line| line.unwrap().parse::<usize>().unwrap()),
        );
        writer.kill().unwrap();
        writer.wait().unwrap();
        written.extend(
            lines
                .map_while(Result::ok)
                .filter_map(|line| line.parse::<usize>().ok()),
        );
    }
    let store = Store::open(root).unwrap();
    assert_eq!(
        fs::read_dir(root.join("tmp")).unwrap().count(),
        0,
        "the dead one's work is gone"
    );
    written
        .iter()
        .for_each(|number| check_result(&store, *number));
    store.gc().unwrap();
    written
        .iter()
        .for_each(|number| check_result(&store, *number));
    let rows = store.records_named("step", 10_000).unwrap().len();
    assert_eq!(
        fs::read_dir(root.join("snapshots")).unwrap().count(),
        rows,
        "no orphan is left"
    );
    make(&store, usize::MAX);
    check_result(&store, usize::MAX);
}

fn a_key_is_free_when_its_holder_is_killed(root: &Path) {
    let store = Store::open(root).unwrap();
    let mut holder = hold(root);
    assert!(store.try_lock_key(&key(0)).unwrap().is_none());
    holder.kill().unwrap();
    drop(store.lock_key(&key(0)).unwrap());
    holder.wait().unwrap();
}

fn leases_and_work_end_with_the_process(root: &Path) {
    let store = Store::open(root).unwrap();
    make(&store, 0);
    store
        .forget_results(Timestamp::now() + Duration::from_secs(1))
        .unwrap();
    let mut holder = hold(root);
    drop(store);
    let store = Store::open(root).unwrap();
    assert!(
        store.gc().unwrap().snapshots.is_empty(),
        "the other process leases it"
    );
    assert_eq!(
        fs::read_dir(root.join("tmp")).unwrap().count(),
        2,
        "its work is there, and ours"
    );
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(store.gc().unwrap().snapshots, [SnapshotId(1)]);
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 1);
}

/// A process that holds key 0, a work directory and a lease on the first snapshot.
fn hold(root: &Path) -> Child {
    let mut holder = start("hold", root);
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "held\n");
    holder
}
