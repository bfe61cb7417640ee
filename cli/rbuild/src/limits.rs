//! What a process may use up: docker's options into limits.

use std::collections::BTreeMap;

use llb::op::{Resources, Ulimit};
use sandbox::Resource;

use crate::args::{LimitArgs, bytes, bytes_or_all};
use crate::fault::Fault;
use crate::spec::fields;

/// The least memory that a process can be started in, as docker has it.
const LEAST_MEMORY: u64 = 6 << 20;

/// `--resource`, and the older options that mean the same.
pub(crate) fn resources(texts: &[String], args: &LimitArgs) -> Result<Resources, Fault> {
    let mut resources = of_options(args);
    for text in texts {
        let fields = fields(text).map_err(|error| Fault::usage(error.to_string()))?;
        for (key, value) in fields {
            set(&mut resources, &key, value.as_deref())
                .map_err(|why| Fault::usage(format!("`--resource {text}`: {why}")).hint(KEYS))?;
        }
    }
    check(&resources)?;
    Ok(resources)
}

/// As docker, 0 means that nothing was asked for.
fn of_options(args: &LimitArgs) -> Resources {
    Resources {
        memory: args.memory.filter(|it| *it != 0),
        memory_swap: args.memory_swap.filter(|it| *it != 0),
        cpu_shares: args.cpu_shares.filter(|it| *it != 0),
        cpu_period: args.cpu_period.filter(|it| *it != 0),
        cpu_quota: args.cpu_quota.filter(|it| *it != 0),
        cpuset_cpus: args.cpuset_cpus.clone().filter(|it| !it.is_empty()),
        cpuset_mems: args.cpuset_mems.clone().filter(|it| !it.is_empty()),
    }
}

const KEYS: &str =
    "known are memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus and cpuset-mems";

fn set(resources: &mut Resources, key: &str, value: Option<&str>) -> Result<(), String> {
    fn number<T: std::str::FromStr>(value: &str) -> Result<Option<T>, String> {
        let number = value.trim().parse();
        number
            .map(Some)
            .map_err(|_| format!("`{value}` is no number"))
    }
    let value = value.ok_or_else(|| format!("`{key}` has no value"))?;
    match key {
        "memory" => resources.memory = Some(bytes(value)?),
        "memory-swap" => resources.memory_swap = Some(bytes_or_all(value)?),
        "cpu-shares" => resources.cpu_shares = number(value)?,
        "cpu-period" => resources.cpu_period = number(value)?,
        "cpu-quota" => resources.cpu_quota = number(value)?,
        "cpuset-cpus" => resources.cpuset_cpus = Some(value.to_owned()),
        "cpuset-mems" => resources.cpuset_mems = Some(value.to_owned()),
        _ => return Err(format!("there is no resource `{key}`")),
    }
    Ok(())
}

fn check(resources: &Resources) -> Result<(), Fault> {
    let list = |text: &Option<String>| text.as_deref().is_none_or(is_list);
    let wrong = match (resources.memory, resources.memory_swap) {
        (Some(memory), _) if memory < LEAST_MEMORY => {
            Some("the least limit of memory is 6m".to_owned())
        }
        (None, Some(_)) => {
            Some("memory-swap limits memory and swap together; say memory too".to_owned())
        }
        (Some(memory), Some(both)) if u64::try_from(both).is_ok_and(|both| both < memory) => Some(
            "memory-swap is memory and swap together, so it cannot be less than memory".to_owned(),
        ),
        _ => None,
    };
    let processors = [&resources.cpuset_cpus, &resources.cpuset_mems];
    let no_list = processors
        .into_iter()
        .find(|it| !list(it))
        .and_then(Option::as_ref);
    let no_list = no_list.map(|text| format!("`{text}` is no list of numbers; write 0-2,4"));
    match wrong.or(no_list) {
        Some(wrong) => Err(Fault::usage(wrong)),
        None => Ok(()),
    }
}

/// Whether `text` is like `0-2,4`.
fn is_list(text: &str) -> bool {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => {
            matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last)
        }
        None => number(part).is_some(),
    })
}

/// `--ulimit`: `TYPE=SOFT[:HARD]`, -1 for no limit.
pub(crate) fn ulimits(texts: &[String]) -> Result<BTreeMap<String, Ulimit>, Fault> {
    let pair = |text: &String| {
        ulimit(text).map_err(|why| {
            Fault::usage(format!("`--ulimit {text}`: {why}"))
                .hint("write it as TYPE=SOFT[:HARD], as nofile=1024:2048")
        })
    };
    texts.iter().map(pair).collect()
}

fn ulimit(text: &str) -> Result<(String, Ulimit), String> {
    let (name, limits) = text.split_once('=').ok_or("there is no `=`")?;
    if Resource::named(name).is_none() {
        let known: Vec<_> = Resource::names().collect();
        return Err(format!(
            "invalid ulimit type: {name}; there are {}",
            known.join(", ")
        ));
    }
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let value = |text: &str| match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(number) => u64::try_from(number)
            .map(Some)
            .map_err(|_| format!("`{text}` is below -1, which is no limit")),
        Err(_) => Err(format!("`{text}` is no number")),
    };
    let (soft, hard) = (value(soft)?, value(hard)?);
    let order = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    if order(soft) > order(hard) {
        return Err(format!(
            "the soft limit must be less than or equal to the hard limit: {limits}"
        ));
    }
    Ok((name.to_owned(), Ulimit { soft, hard }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
        match result {
            Ok(value) => format!("{value:?}"),
            Err(fault) => fault.words().lines().next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn ulimits_are_dockers() {
        let limit = |text: &str| match ulimits(&[text.to_owned()]) {
            Ok(limits) => {
                let (name, limit) = limits.first_key_value().expect("one was read");
                format!("{name} {:?} {:?}", limit.soft, limit.hard)
            }
            Err(fault) => fault.words().lines().next().unwrap_or_default().to_owned(),
        };
        let table = [
            ("nofile=1024", "nofile Some(1024) Some(1024)"),
            ("nofile=1024:2048", "nofile Some(1024) Some(2048)"),
            ("core=0:-1", "core Some(0) None"),
            ("memlock=-1", "memlock None None"),
            ("nofile", "error: `--ulimit nofile`: there is no `=`"),
            ("nofile=x", "error: `--ulimit nofile=x`: `x` is no number"),
            (
                "nofile=-2",
                "error: `--ulimit nofile=-2`: `-2` is below -1, which is no limit",
            ),
            (
                "nofile=2:1",
                "error: `--ulimit nofile=2:1`: the soft limit must be less than or equal to the hard limit: 2:1",
            ),
            (
                "nofile=-1:1",
                "error: `--ulimit nofile=-1:1`: the soft limit must be less than or equal to the hard limit: -1:1",
            ),
            (
                "files=1",
                "error: `--ulimit files=1`: invalid ulimit type: files; there are cpu, fsize, data, stack, core, rss, nproc, nofile, memlock, as, locks, sigpending, msgqueue, nice, rtprio, rttime",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(limit(text), expected, "{text}");
        }
    }

    #[test]
    fn resources_say_what_is_limited_or_what_is_wrong() {
        let read = |text: &str| shown(resources(&[text.to_owned()], &LimitArgs::default()));
        let given = |resources: Resources| format!("{resources:?}");
        assert_eq!(
            read(
                "memory=64m,memory-swap=-1,cpu-quota=50000,cpu-period=100000,cpu-shares=2,\"cpuset-cpus=0,2-3\",cpuset-mems=0"
            ),
            given(Resources {
                memory: Some(64 << 20),
                memory_swap: Some(-1),
                cpu_shares: Some(2),
                cpu_period: Some(100_000),
                cpu_quota: Some(50_000),
                cpuset_cpus: Some("0,2-3".to_owned()),
                cpuset_mems: Some("0".to_owned()),
            })
        );
        let table = [
            (
                "memory=lots",
                "error: `--resource memory=lots`: `lots` is no size; write 64m or 1g",
            ),
            (
                "memory",
                "error: `--resource memory`: `memory` has no value",
            ),
            (
                "cpus=2",
                "error: `--resource cpus=2`: there is no resource `cpus`",
            ),
            (
                "cpu-quota=x",
                "error: `--resource cpu-quota=x`: `x` is no number",
            ),
            ("memory=1k", "error: the least limit of memory is 6m"),
            (
                "memory-swap=64m",
                "error: memory-swap limits memory and swap together; say memory too",
            ),
            (
                "memory=64m,memory-swap=32m",
                "error: memory-swap is memory and swap together, so it cannot be less than memory",
            ),
            (
                "cpuset-cpus=3-1",
                "error: `3-1` is no list of numbers; write 0-2,4",
            ),
            (
                "cpuset-mems=a",
                "error: `a` is no list of numbers; write 0-2,4",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn the_older_options_mean_the_same_and_nought_means_nothing() {
        let args = LimitArgs {
            memory: Some(64 << 20),
            cpu_shares: Some(0),
            cpuset_cpus: Some(String::new()),
            ..LimitArgs::default()
        };
        let expected = Resources {
            memory: Some(64 << 20),
            ..Resources::default()
        };
        assert_eq!(shown(resources(&[], &args)), format!("{expected:?}"));
    }
}
