//! `ps` and `rm`: the containers that there are.

use container::{Record, State};
use serde_json::{Value, json};
use store::Store;

use crate::args::{ForgetArgs, PsArgs};
use crate::fault::Fault;
use crate::human;
use crate::output::print;
use crate::progress::terminal::say;
use crate::table::Format;

/// Columns of COMMAND before it is cut.
const COMMAND: usize = 20;

/// All containers as a table.
pub(crate) fn list(store: &Store) -> Result<String, Fault> {
    let now = jiff::Timestamp::now();
    let containers = container::list(store)?;
    let rows = containers.iter();
    let rows = rows.map(|(record, state)| row(record, *state, now, false));
    let format = Format::parse(None, COLUMNS)?;
    Ok(format.show(&headings(), &rows.collect::<Vec<_>>())?)
}

/// Prints the containers.
pub(crate) fn ps(store: &Store, args: &PsArgs) -> Result<(), Fault> {
    let mut containers = container::list(store)?;
    containers.retain(|(_, state)| args.all || *state == State::Running);
    let now = jiff::Timestamp::now();
    let rows: Vec<Value> = containers
        .iter()
        .map(|(record, state)| row(record, *state, now, args.no_trunc))
        .collect();
    if args.quiet {
        let ids = rows.iter().filter_map(|row| row["ID"].as_str());
        return Ok(print(&ids.map(|id| format!("{id}\n")).collect::<String>())?);
    }
    let format = Format::parse(args.format.as_deref(), COLUMNS)?;
    Ok(print(&format.show(&headings(), &rows)?)?)
}

const COLUMNS: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

fn headings() -> Value {
    json!({
        "Command": "COMMAND",
        "CreatedAt": "CREATED AT",
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Names": "NAMES",
        "Ports": "PORTS",
        "RunningFor": "CREATED",
        "State": "STATE",
        "Status": "STATUS",
    })
}

fn row(record: &Record, state: State, now: jiff::Timestamp, no_trunc: bool) -> Value {
    let since = |time: jiff::Timestamp| {
        human::duration(now.duration_since(time).try_into().unwrap_or_default())
    };
    let (word, status) = match state {
        State::Running => ("running", format!("Up {}", since(record.created))),
        State::Exited(Some(ended)) => (
            "exited",
            format!("Exited ({}) {} ago", ended.code, since(ended.at)),
        ),
        State::Exited(None) => ("dead", "Dead".to_owned()),
    };
    json!({
        "Command": command(record, no_trunc),
        "CreatedAt": crate::image::clock_time(Some(record.created)),
        "ID": if no_trunc { &record.id } else { record.short_id() },
        "Image": record.image,
        "Names": record.name,
        "Ports": "",
        "RunningFor": format!("{} ago", since(record.created)),
        "State": word,
        "Status": status,
    })
}

/// In quotes, as docker shows it.
fn command(record: &Record, no_trunc: bool) -> String {
    let text = record.command.join(" ");
    if no_trunc || text.chars().count() <= COMMAND {
        return format!("\"{text}\"");
    }
    let cut: String = text.chars().take(COMMAND - 1).collect();
    format!("\"{cut}…\"")
}

/// Forgets containers that are over. One that cannot be forgotten does not keep the others.
pub(crate) fn rm(store: &Store, args: &ForgetArgs) -> Result<(), Fault> {
    let mut last = None;
    for word in &args.containers {
        match container::remove(store, word) {
            Ok(()) => print(&format!("{word}\n"))?,
            Err(error) => {
                if let Some(previous) = last.replace(Fault::from(error)) {
                    say(&previous.words());
                }
            }
        }
    }
    last.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use container::Ended;

    use super::*;

    fn record(command: &str) -> Record {
        Record {
            id: "0123456789abcdef".repeat(4),
            name: "calm_hopper".to_owned(),
            image: "app".to_owned(),
            image_id: oci::Digest::of(b""),
            command: vec![command.to_owned()],
            created: jiff::Timestamp::UNIX_EPOCH,
            remove: false,
            ended: None,
        }
    }

    #[test]
    fn a_row_is_dockers() {
        let now = jiff::Timestamp::from_second(600).unwrap();
        let ended = Ended {
            at: jiff::Timestamp::from_second(540).unwrap(),
            code: 3,
        };
        let status = |state| {
            row(&record("sh"), state, now, false)["Status"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(status(State::Running), "Up 10 minutes");
        assert_eq!(
            status(State::Exited(Some(ended))),
            "Exited (3) About a minute ago"
        );
        assert_eq!(status(State::Exited(None)), "Dead");
        let row = row(
            &record("a command that is long"),
            State::Running,
            now,
            false,
        );
        assert_eq!(row["Command"], "\"a command that is l…\"");
        assert_eq!(
            (&row["ID"], &row["RunningFor"]),
            (&"0123456789ab".into(), &"10 minutes ago".into())
        );
    }
}
