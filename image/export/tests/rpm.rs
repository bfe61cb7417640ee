//! Packages that the real rpm installs, found in the databases of images.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use export::ImportOptions;
use export::sbom::{Inventory, Package, scan};
use rusqlite::Connection;
use support::Fixture;

const HOME: &str = "usr/lib/sysimage/rpm";
const DATABASE: &str = "usr/lib/sysimage/rpm/rpmdb.sqlite";

const LITTLE: &str = "Name: little\nEpoch: 3\nVersion: 1.2\nRelease: 4.el9\nSummary: Little\n\
    License: MIT\nVendor: Somebody\nBuildArch: noarch\n%description\nLittle.\n%files\n";
const PLAIN: &str = "Name: plain-c++\nVersion: 2~rc1\nRelease: 1\nSummary: Plain\n\
    License: GPL-2.0-only AND MIT\nPackager: Me <me@here.example>\n%description\nPlain.\n%files\n";

/// Runs one of rpm's programs, for which nothing outside `home` is there.
fn run(home: &Path, program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments).env("HOME", home).current_dir(home);
    let output = command.output();
    let output = output.expect("this test needs Debian's package rpm");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {words}");
}

/// A root file system in which rpm has installed two packages, below `home`.
fn installed(home: &Path) -> std::path::PathBuf {
    let top = format!("_topdir {}", home.join("top").display());
    for (name, spec) in [("little.spec", LITTLE), ("plain.spec", PLAIN)] {
        fs::write(home.join(name), spec).unwrap();
        run(
            home,
            "rpmbuild",
            &["--quiet", "--define", &top, "-bb", name],
        );
    }
    let root = home.join("root");
    fs::create_dir(&root).unwrap();
    let at = root.display().to_string();
    let path = format!("/{HOME}");
    let rpm = |more: &[&str]| {
        let usual = [
            "--root",
            &at,
            "--dbpath",
            &path,
            "--define",
            "_db_backend sqlite",
        ];
        run(home, "rpm", &[&usual, more].concat());
    };
    rpm(&["--initdb"]);
    for directory in fs::read_dir(home.join("top/RPMS")).unwrap() {
        for package in fs::read_dir(directory.unwrap().path()).unwrap() {
            let package = package.unwrap().path().display().to_string();
            rpm(&["-i", "--nodeps", "--force-debian", &package]);
        }
    }
    root
}

/// What is found in an image of these files.
fn found(root: &Path) -> Inventory {
    let fixture = Fixture::new();
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(root).args(["-c", "."]);
    let tar = tar.output().unwrap().stdout;
    let id = export::import(&fixture.snapshots, &tar[..], &ImportOptions::default()).unwrap();
    let image = fixture.store().image(&id).unwrap().unwrap();
    scan(&fixture.snapshots, image.top).unwrap()
}

fn lines(inventory: &Inventory) -> Vec<String> {
    let line = |it: &Package| {
        format!(
            "{} {} {} | {} | {} | {}",
            it.name, it.version, it.architecture, it.license, it.supplier, it.found_in
        )
    };
    inventory.packages.iter().map(line).collect()
}

fn expected(database: &str) -> [String; 2] {
    let machine = std::env::consts::ARCH;
    [
        format!("little 3:1.2-4.el9 noarch | MIT | Somebody | /{database}"),
        format!(
            "plain-c++ 2~rc1-1 {machine} | GPL-2.0-only AND MIT | Me <me@here.example> | /{database}"
        ),
    ]
}

#[test]
fn what_rpm_installed_is_found_as_root() {
    let home = tempfile::tempdir().unwrap();
    let root = installed(home.path());
    let inventory = found(&root);
    assert_eq!(lines(&inventory), expected(DATABASE));
    assert!(inventory.unread.is_empty());

    // What rpm has not yet written from its log into the database is there as well.
    let connection = Connection::open(root.join(DATABASE)).unwrap();
    connection
        .execute_batch(
            "PRAGMA foreign_keys = OFF; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
             DELETE FROM Packages WHERE hnum = (SELECT min(hnum) FROM Packages)",
        )
        .unwrap();
    assert_ne!(
        fs::metadata(root.join(format!("{DATABASE}-wal")))
            .unwrap()
            .len(),
        0
    );
    assert_eq!(found(&root).packages.len(), 1);
    drop(connection);

    // And one that is cut off is said not to be read.
    let path = root.join(DATABASE);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..1000]).unwrap();
    let inventory = found(&root);
    assert_eq!(inventory.unread, [Path::new("/").join(DATABASE)]);
    assert!(inventory.packages.is_empty());
}

/// The database that rpm on SUSE would keep of these headers. Debian's rpm cannot write one.
fn ndb(headers: &[Vec<u8>]) -> Vec<u8> {
    let mut database = vec![0; 4096];
    let mut put = |at: usize, text: &[u8], numbers: [u32; 3]| {
        database[at..at + 4].copy_from_slice(text);
        for (index, number) in numbers.into_iter().enumerate() {
            let at = at + 4 + 4 * index;
            database[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
    };
    put(0, b"RpmP", [0, 7, 1]);
    (2..256).for_each(|slot| put(16 * slot, b"Slot", [0; 3]));
    let mut blobs: Vec<u8> = Vec::new();
    for (index, header) in headers.iter().enumerate() {
        let number = index as u32 + 1;
        let offset = 256 + (blobs.len() / 16) as u32;
        blobs.extend(b"BlbS");
        for word in [number, 0, header.len() as u32] {
            blobs.extend(word.to_le_bytes());
        }
        blobs.extend(header);
        blobs.extend([0; 8]);
        blobs.extend(b"BlbE");
        blobs.resize(blobs.len().next_multiple_of(16), 0);
        let blocks = 256 + (blobs.len() / 16) as u32 - offset;
        // A slot that is free stands between two that are not.
        put(16 * (2 + 2 * index), b"Slot", [number, offset, blocks]);
    }
    [database, blobs].concat()
}

#[test]
fn the_same_is_found_in_the_other_form_of_database_as_root() {
    let home = tempfile::tempdir().unwrap();
    let root = installed(home.path());
    let connection = Connection::open(root.join(DATABASE)).unwrap();
    let mut statement = connection.prepare("SELECT blob FROM Packages").unwrap();
    let headers = statement.query_map([], |row| row.get(0)).unwrap();
    let headers: Vec<Vec<u8>> = headers.map(Result::unwrap).collect();
    let other = tempfile::tempdir().unwrap();
    fs::create_dir_all(other.path().join(HOME)).unwrap();
    let path = format!("{HOME}/Packages.db");
    let database = ndb(&headers);
    fs::write(other.path().join(&path), &database).unwrap();
    assert_eq!(lines(&found(other.path())), expected(&path));
    fs::write(other.path().join(&path), &database[..4500]).unwrap();
    assert_eq!(found(other.path()).unread.len(), 1);
}
