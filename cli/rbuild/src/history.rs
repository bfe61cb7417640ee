//! `builder history`: the builds that are over, and what their steps took.

use std::time::Duration;

use serde_json::{Value, json};
use store::{BuildRow, RanStep, Spent, Store};

use crate::args::{BuildHistoryCommand, BuildInspectArgs, BuildLsArgs};
use crate::fault::Fault;
use crate::human;
use crate::image::clock_time;
use crate::output::print;
use crate::table::Format;

/// Does what is asked of the history.
pub(crate) fn history(store: &Store, command: &BuildHistoryCommand) -> Result<(), Fault> {
    match command {
        BuildHistoryCommand::Ls(args) => ls(store, args),
        BuildHistoryCommand::Inspect(args) => inspect(store, args),
    }
}

/// Prints the builds, the latest first.
fn ls(store: &Store, args: &BuildLsArgs) -> Result<(), Fault> {
    const COLUMNS: &str =
        "{{.ID}}\t{{.Name}}\t{{.Status}}\t{{.Steps}}\t{{.Cached}}\t{{.CreatedAt}}\t{{.Duration}}";
    let headings = json!({
        "Cached": "CACHED",
        "CreatedAt": "CREATED AT",
        "Duration": "DURATION",
        "Error": "ERROR",
        "ID": "BUILD ID",
        "Image": "IMAGE",
        "Name": "NAME",
        "Status": "STATUS",
        "Steps": "STEPS",
    });
    let builds = store.builds(args.last.unwrap_or(u32::MAX))?;
    let rows: Vec<Value> = builds.iter().map(build).collect();
    let format = Format::parse(args.format.as_deref(), COLUMNS)?;
    Ok(print(&format.show(&headings, &rows)?)?)
}

fn build(row: &BuildRow) -> Value {
    let build = &row.build;
    json!({
        "Cached": build.cached.to_string(),
        "CreatedAt": clock_time(Some(build.started)),
        "Duration": seconds(build.duration),
        "Error": build.error,
        "ID": row.id.to_string(),
        "Image": build.image.map(|it| it.to_string()),
        "Name": build.name,
        "Status": if build.error.is_some() { "Error" } else { "Completed" },
        "Steps": build.steps.to_string(),
    })
}

/// Prints the steps that one build ran, in the order in which they ended.
fn inspect(store: &Store, args: &BuildInspectArgs) -> Result<(), Fault> {
    const COLUMNS: &str =
        "{{.Duration}}\t{{.CPU}}\t{{.Memory}}\t{{.Read}}\t{{.Written}}\t{{.Step}}";
    let headings = json!({
        "CPU": "CPU",
        "Duration": "DURATION",
        "Error": "ERROR",
        "Line": "LINE",
        "Memory": "MEMORY",
        "Read": "READ",
        "Step": "STEP",
        "Written": "WRITTEN",
    });
    let builds = store.builds(u32::MAX)?;
    let id = match (args.build, builds.first()) {
        (Some(id), _) if builds.iter().any(|it| it.id == id) => id,
        (Some(id), _) => {
            let fault = Fault::from(anyhow::anyhow!("there was no build {id}"));
            return Err(fault.hint("`rbuild builder history ls` lists those that there were"));
        }
        (None, Some(latest)) => latest.id,
        (None, None) => return Err(Fault::from(anyhow::anyhow!("there was no build yet"))),
    };
    let step = |ran: &RanStep| -> Result<Value, Fault> {
        let record = store.record_of(&ran.key)?;
        Ok(step(ran, record.and_then(|it| it.spent)))
    };
    let steps = store.ran_steps(id)?;
    let rows: Vec<Value> = steps.iter().map(step).collect::<Result<_, _>>()?;
    let format = Format::parse(args.format.as_deref(), COLUMNS)?;
    Ok(print(&format.show(&headings, &rows)?)?)
}

/// `spent` is nothing of a step without processes, of one that failed, and of one that is forgotten.
fn step(ran: &RanStep, spent: Option<Spent>) -> Value {
    let spent = |what: fn(Spent) -> String| spent.map_or_else(|| "-".to_owned(), what);
    json!({
        "CPU": spent(|it| seconds(it.processor)),
        "Duration": ran.duration.map_or_else(|| "-".to_owned(), seconds),
        "Error": ran.failure.as_ref().map(|it| &it.error),
        "Line": ran.line,
        "Memory": spent(|it| human::size(it.memory)),
        "Read": spent(|it| human::size(it.read)),
        "Step": ran.name,
        "Written": spent(|it| human::size(it.written)),
    })
}

/// As the progress has it, with a digit more: steps may be short.
fn seconds(duration: Duration) -> String {
    format!("{:.2}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_of_a_step_is_a_dash() {
        let ran = RanStep {
            name: "[2/2] RUN make".to_owned(),
            line: Some(3),
            key: oci::Key::from_bytes([0; 32]),
            why: "missing".to_owned(),
            duration: Some(Duration::from_millis(1234)),
            failure: None,
        };
        let spent = Spent {
            processor: Duration::from_millis(2500),
            memory: 64_000_000,
            read: 0,
            written: 1_200,
        };
        let shown = |spent| {
            let row = step(&ran, spent);
            ["Duration", "CPU", "Memory", "Read", "Written"]
                .map(|it| row[it].as_str().unwrap().to_owned())
        };
        assert_eq!(
            shown(Some(spent)),
            ["1.23s", "2.50s", "64MB", "0B", "1.2kB"]
        );
        assert_eq!(shown(None), ["1.23s", "-", "-", "-", "-"]);
    }
}
