//! A new database from what can be read of a damaged one.

use std::fs;
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use crate::error::Fault;
use crate::{OpenError, StoreError, locks, owner};

use super::{FILE, files, write_schema};

/// Puts a new database in place of a damaged one, with all rows that can be read. Nothing they
/// speak of is trusted before it was verified, as after a power cut.
///
/// Fails where another process has the store in use.
pub(crate) fn salvage(root: &Path) -> Result<(), OpenError> {
    let path = root.join(FILE);
    if owner::anybody_lives(root) {
        return Err(OpenError::Store(StoreError::Busy { path }));
    }
    let at = |error: Fault| OpenError::Store(error.at(root, "make anew"));
    let _only_me = locks::create(root).map_err(at)?;
    let fresh = root.join(format!("{FILE}.new"));
    owner::remove_any(&fresh)
        .map_err(Fault::file("remove", &fresh))
        .map_err(at)?;
    fill(&path, &fresh).map_err(|error| at(Fault::Database(error)))?;
    for file in files(root) {
        owner::remove_any(&file)
            .map_err(Fault::file("remove", &file))
            .map_err(at)?;
    }
    fs::rename(&fresh, &path)
        .map_err(Fault::file("create", &path))
        .map_err(at)
}

/// Makes the database `fresh` with the rows of `damaged`.
fn fill(damaged: &Path, fresh: &Path) -> rusqlite::Result<()> {
    let new = Connection::open(fresh)?;
    write_schema(&new)?;
    // A database that was never in write-ahead mode is nothing a store would open.
    let regular = fs::symlink_metadata(damaged).is_ok_and(|it| it.is_file());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if regular && let Ok(old) = Connection::open_with_flags(damaged, flags) {
        // Says that a file may be shorter than its head says, too.
        let _ = old.pragma_update(None, "writable_schema", true);
        let transaction = new.unchecked_transaction()?;
        for table in tables(&new)? {
            copy(&old, &new, &table)?;
        }
        transaction.commit()?;
    }
    // What a damaged page says may be anything. A row that names nothing possible goes; of the
    // others none is believed before the files were compared with it.
    new.execute_batch(
        "DELETE FROM blobs WHERE length(digest) <> 32;
         DELETE FROM snapshots WHERE length(content) <> 32 OR length(tree_root) <> 32;
         DELETE FROM images WHERE length(id) <> 32;
         DELETE FROM leases;
         UPDATE blobs SET synced = 0, boot = '';
         UPDATE snapshots SET synced = 0, boot = '';",
    )?;
    new.pragma_update(None, "journal_mode", "WAL")?;
    new.close().map_err(|(_, error)| error)
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let select = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut statement = connection.prepare(select)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// Copies the rows that can be read: from the front up to the first that cannot, and from the back.
fn copy(old: &Connection, new: &Connection, table: &str) -> rusqlite::Result<()> {
    let (Ok(there), known) = (columns(old, table), columns(new, table)?) else {
        return Ok(());
    };
    let common: Vec<&str> = known
        .iter()
        .map(String::as_str)
        .filter(|it| there.iter().any(|other| other == it))
        .collect();
    if common.is_empty() {
        return Ok(());
    }
    let list = common.join(", ");
    let places = vec!["?"; common.len()].join(", ");
    let mut insert = new.prepare(&format!(
        "INSERT OR IGNORE INTO {table} ({list}) VALUES ({places})"
    ))?;
    for order in ["", "ORDER BY rowid DESC", "ORDER BY 1 DESC"] {
        let Ok(mut select) = old.prepare(&format!("SELECT {list} FROM {table} {order}")) else {
            continue;
        };
        let Ok(mut rows) = select.query([]) else {
            continue;
        };
        while let Ok(Some(row)) = rows.next() {
            let values: Vec<Value> = (0..common.len())
                .map(|at| row.get(at))
                .collect::<rusqlite::Result<_>>()?;
            // A row that breaks a rule of the schema is none of ours.
            let _ = insert.execute(params_from_iter(values));
        }
    }
    Ok(())
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement =
        connection.prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))?;
    statement.query_map([], |row| row.get(0))?.collect()
}
