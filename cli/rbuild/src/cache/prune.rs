//! `cache prune`, which docker calls `builder prune` and buildx `prune`.

use std::fmt::Write as _;
use std::io::{self, BufRead as _};

use store::{Budget, Removal, Store};

use super::du::paragraph;
use super::filter::Filters;
use crate::args::CachePruneArgs;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::human;
use crate::output::print;
use crate::progress::terminal::say;

/// Removes what no image and no running build needs, as far as the limits ask for it.
pub(crate) fn prune(store: &Store, args: &CachePruneArgs) -> Result<(), Fault> {
    let filters = Filters::parse(&args.filter)?;
    let budget = Budget {
        max_used: args.max_used_space,
        reserved: args.reserved_space,
        min_free: args.min_free_space,
        unused_for: None,
    };
    if !args.dry_run && !args.force && !agreed(args)? {
        return Err(Fault::silent(Exit::Failure));
    }
    let planned = store.plan_prune(&|item| filters.admit(item), &budget)?;
    if args.dry_run {
        return Ok(print(&forecast(&planned, args.verbose))?);
    }
    let gone = store.prune(planned)?;
    let limited = budget != Budget::default() || !args.filter.is_empty();
    if args.all && !limited {
        store.forget_held_results()?;
        store.forget_parts()?;
    }
    store.gc()?;
    Ok(print(&told(&gone, args.verbose))?)
}

/// What would go, how much exactly, and why.
fn forecast(planned: &[Removal], verbose: bool) -> String {
    let mut text = String::new();
    for removal in planned {
        let item = &removal.item;
        if verbose {
            text.push_str(&paragraph(item));
        }
        let _ = writeln!(
            text,
            "{}\t{} bytes\t{}\t{}",
            item.id(),
            item.size,
            item.description,
            removal.reason
        );
    }
    let bytes: u64 = planned.iter().map(|it| it.item.size).sum();
    let _ = writeln!(text, "Would free:\t{bytes} bytes ({})", human::size(bytes));
    text
}

fn told(gone: &[Removal], verbose: bool) -> String {
    let mut text = String::new();
    if verbose {
        text.extend(gone.iter().map(|it| paragraph(&it.item)));
    } else if !gone.is_empty() {
        text.push_str("ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n");
        for removal in gone {
            let item = &removal.item;
            let size = human::size(item.size);
            let _ = writeln!(
                text,
                "{}\ttrue\t{size}\t{}",
                item.id(),
                super::ago(item.used)
            );
        }
    }
    let bytes = gone.iter().map(|it| it.item.size).sum();
    let _ = writeln!(text, "Total:\t{}", human::size(bytes));
    text
}

fn agreed(args: &CachePruneArgs) -> Result<bool, Fault> {
    let which = if args.all {
        "all build cache"
    } else {
        "all dangling build cache"
    };
    say(&format!(
        "WARNING! This will remove {which}.\nAre you sure you want to continue? [y/N] "
    ));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}
