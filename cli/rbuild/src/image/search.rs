//! `search`: images that a registry has, by words.

use registry::{RegistryError, SearchResult, split_term};
use serde_json::{Value, json};

use super::ellipsis;
use crate::args::SearchArgs;
use crate::fault::Fault;
use crate::output::print;
use crate::progress::clean;
use crate::registries;
use crate::table::Format;

/// How much of a description is shown.
const DESCRIPTION: usize = 45;
/// How many images are asked for where nobody says.
const USUAL: u32 = 25;
/// How many a registry gives at most.
const MOST: u32 = 100;

/// Prints what is found.
pub(crate) fn search(args: &SearchArgs) -> Result<(), Fault> {
    let limit = match args.limit.unwrap_or(0) {
        0 => USUAL,
        limit @ 1..=MOST => limit,
        limit => {
            let message = format!("limit {limit} is outside the range of [1, {MOST}]");
            return Err(Fault::usage(message));
        }
    };
    let filter = Filter::parse(&args.filter)?;
    let format = Format::parse(args.format.as_deref(), COLUMNS)?;
    let (registry, word) = split_term(&args.term);
    if word.is_empty() {
        return Err(Fault::usage("what is searched for is a word or more"));
    }
    let client = registries::client()?;
    let found = client.search(registry, word, limit);
    let mut found = found.map_err(|error| unreachable(error, registry))?;
    found.retain(|it| filter.admits(it));
    found.sort_by_key(|it| std::cmp::Reverse(it.star_count));
    let rows: Vec<Value> = found.iter().map(|it| row(it, args.no_trunc)).collect();
    Ok(print(&format.show(&headings(), &rows)?)?)
}

/// What helps where there is no answer.
fn unreachable(error: RegistryError, registry: &str) -> Fault {
    let is_http = matches!(error, RegistryError::Http(_));
    let fault = Fault::from(error);
    match (is_http, registry) {
        (true, "docker.io") => fault.hint(
            "the search is Docker Hub's and needs the internet; `rbuild images` lists what is here",
        ),
        _ => fault,
    }
}

const COLUMNS: &str = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";

fn headings() -> Value {
    json!({
        "Description": "DESCRIPTION",
        "IsOfficial": "OFFICIAL",
        "Name": "NAME",
        "StarCount": "STARS",
    })
}

fn row(found: &SearchResult, no_trunc: bool) -> Value {
    let description = found.description.as_deref().unwrap_or_default();
    let description = clean(description.replace(['\n', '\r', '\t'], " ").as_bytes());
    json!({
        "Description": if no_trunc { description } else { ellipsis(&description, DESCRIPTION) },
        "IsOfficial": if found.is_official { "[OK]" } else { "" },
        "Name": clean(found.name.as_bytes()),
        "StarCount": found.star_count.to_string(),
    })
}

/// Which images are shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    stars: u64,
    is_official: Option<bool>,
}

impl Filter {
    fn parse(filters: &[String]) -> Result<Self, Fault> {
        let mut parsed = Self::default();
        for filter in filters {
            let (key, value) = filter.split_once('=').ok_or_else(|| {
                Fault::usage(format!(
                    "invalid filter `{filter}`: it is not of the form `key=value`"
                ))
            })?;
            let invalid = || Fault::usage(format!("invalid filter '{key}={value}'"));
            match key {
                "stars" => parsed.stars = value.parse().map_err(|_| invalid())?,
                "is-official" => {
                    parsed.is_official = Some(match value {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => return Err(invalid()),
                    });
                }
                // Nothing has been for years.
                "is-automated" => {}
                _ => {
                    return Err(Fault::usage(format!("invalid filter '{key}'"))
                        .hint("known are stars= and is-official="));
                }
            }
        }
        Ok(parsed)
    }

    fn admits(&self, found: &SearchResult) -> bool {
        found.star_count >= self.stars && self.is_official.is_none_or(|it| it == found.is_official)
    }
}
