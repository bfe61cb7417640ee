//! `explain`: why the steps of the latest build ran.

use engine::{Engine, Explanation};
use store::Store;

use crate::args::ExplainArgs;
use crate::fault::Fault;
use crate::output::print;

/// Prints a sentence for each step that ran.
pub(crate) fn explain(store: Store, args: &ExplainArgs) -> Result<(), Fault> {
    let Some(steps) = Engine::new(store).explain(None)? else {
        return Err(Fault::from(anyhow::anyhow!("there was no build yet")));
    };
    let asked = |it: &&Explanation| {
        args.step.as_ref().is_none_or(|step| {
            it.step.contains(step.as_str())
                || it.line.map(|line| line.to_string()).as_ref() == Some(step)
        })
    };
    let asked: Vec<&Explanation> = steps.iter().filter(asked).collect();
    if steps.is_empty() && !args.json {
        return Ok(print("nothing ran: everything was in the cache\n")?);
    }
    if asked.is_empty()
        && let Some(step) = &args.step
    {
        return Err(Fault::from(anyhow::anyhow!("no step that ran is `{step}`"))
            .hint("`rbuild explain` lists those that did"));
    }
    let line = |it: &&Explanation| {
        if !args.json {
            return format!("{}: {}\n", it.step, it.sentence());
        }
        let mut value = serde_json::to_value(it).unwrap_or_default();
        value["sentence"] = it.sentence().into();
        format!("{value}\n")
    };
    Ok(print(&asked.iter().map(line).collect::<String>())?)
}
