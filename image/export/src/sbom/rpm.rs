//! rpm's databases: a header a package, kept by SQLite or in rpm's own `ndb` form.

mod header;
mod ndb;

use std::io;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::Package;

/// Which kind of database a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Database {
    /// Since rpm 4.16: what Fedora and its kin have.
    Sqlite,
    /// What SUSE has.
    Ndb,
    /// What there was before, which nobody here reads.
    Berkeley,
}

/// Where rpm keeps its databases.
const HOMES: [&str; 2] = ["var/lib/rpm/", "usr/lib/sysimage/rpm/"];
/// The most packages that are read.
const MOST_PACKAGES: usize = 1 << 20;

/// The kind of database at a path of an image, if it is one.
pub(super) fn database(path: &str) -> Option<Database> {
    let name = HOMES.iter().find_map(|home| path.strip_prefix(home))?;
    match name {
        "rpmdb.sqlite" => Some(Database::Sqlite),
        "Packages.db" => Some(Database::Ndb),
        "Packages" => Some(Database::Berkeley),
        _ => None,
    }
}

/// The packages of an `ndb` database; `None` if it is none.
pub(super) fn of_ndb(bytes: &[u8]) -> Option<Vec<Package>> {
    let headers = ndb::headers(bytes)?;
    Some(headers.into_iter().filter_map(header::package).collect())
}

/// The packages of an SQLite database, a private copy of which is at `path`, perhaps with a log of what is
/// to be written to it beside; `None` if it is none.
pub(super) fn of_sqlite(path: &Path) -> Option<Vec<Package>> {
    match packages(path) {
        Ok(packages) => Some(packages),
        Err(error) => {
            tracing::debug!(%error, "this is no database of rpm's");
            None
        }
    }
}

/// Whoever made the image made the database: it gets to run nothing.
fn packages(path: &Path) -> rusqlite::Result<Vec<Package>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    for off in [
        DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA,
        DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
        DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
    ] {
        connection.set_db_config(off, false)?;
    }
    let mut statement = connection.prepare("SELECT blob FROM Packages")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    let mut count = 0;
    while let Some(row) = rows.next()?.filter(|_| count < MOST_PACKAGES) {
        count += 1;
        let package = row.get_ref(0)?.as_blob().ok().and_then(header::package);
        found.extend(package);
    }
    Ok(found)
}

/// What has to stand beside a copy of an SQLite database.
pub(super) const LOG: &str = "rpmdb.sqlite-wal";

/// Writes a copy of an SQLite database, and of its log if it has one.
pub(super) fn copy(into: &Path, database: &[u8], log: Option<&[u8]>) -> io::Result<()> {
    let path = into.join("rpmdb.sqlite");
    std::fs::write(&path, database)?;
    match log {
        Some(log) => std::fs::write(into.join(LOG), log),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_known_by_where_they_stand() {
        let known = |path| database(path);
        assert_eq!(
            known("usr/lib/sysimage/rpm/rpmdb.sqlite"),
            Some(Database::Sqlite)
        );
        assert_eq!(known("var/lib/rpm/Packages.db"), Some(Database::Ndb));
        assert_eq!(known("var/lib/rpm/Packages"), Some(Database::Berkeley));
        assert_eq!(known("var/lib/rpm/Name"), None);
        assert_eq!(known("opt/var/lib/rpm/Packages.db"), None);
    }

    #[test]
    fn what_is_no_database_has_no_packages() {
        assert_eq!(of_ndb(b""), None);
        assert_eq!(of_ndb(&[0xff; 8192]), None);
        let directory = tempfile::tempdir().unwrap();
        copy(directory.path(), b"no database at all", None).unwrap();
        assert_eq!(of_sqlite(&directory.path().join("rpmdb.sqlite")), None);
        let path = directory.path().join("other.sqlite");
        let other = Connection::open(&path).unwrap();
        other
            .execute_batch("CREATE TABLE packages_too (blob BLOB); CREATE VIEW Packages AS SELECT x'00' AS blob")
            .unwrap();
        drop(other);
        assert_eq!(of_sqlite(&path), None, "a view is no table");
    }
}
