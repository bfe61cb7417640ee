//! A plan as text: the graph from its sources up, the image, what was noticed.

use std::fmt::Write as _;

use llb::op::{
    Copy, Exec, FileChange, GitTimes, ModeChange, Mount, MountKind, Network, Owner, Security,
    Source, Tree,
};
use llb::{Input, Op, Vertex};
use lower::{Plan, PlanError};
use oci::ImageConfig;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn plan(plan: &Plan) -> String {
    let mut text = String::new();
    for (id, vertex) in plan.graph.vertices() {
        let lines = vertex.metadata.source.map_or(String::new(), |it| {
            match it.first_line == it.last_line {
                true => format!("  (line {})", it.first_line),
                false => format!("  (lines {}-{})", it.first_line, it.last_line),
            }
        });
        let fresh = if vertex.metadata.ignore_cache {
            "  no-cache"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "#{} {}{lines}{fresh}",
            id.index(),
            vertex.metadata.name
        );
        for line in op(vertex) {
            let _ = writeln!(text, "    {line}");
        }
    }
    let root = plan.root.map_or("scratch".to_owned(), input);
    let _ = writeln!(text, "root {root}\n\nplatform {}", plan.platform);
    if let Some(target) = &plan.target {
        let _ = writeln!(text, "target {target}");
    }
    for local in &plan.locals {
        let _ = writeln!(text, "local {} {}", local.name, local.paths.join(" "));
    }
    for (name, value) in &plan.used_build_args {
        let _ = writeln!(text, "build-arg {name}={value}");
    }
    if let Some(seconds) = plan.source_date_epoch {
        let _ = writeln!(text, "source date epoch {seconds}");
    }
    text.push_str(&image(plan));
    for warning in &plan.warnings {
        let rule = if warning.rule.is_empty() {
            "-"
        } else {
            warning.rule
        };
        let line = warning
            .lines
            .map_or(String::new(), |it| format!(" (line {})", it.first_line));
        let _ = writeln!(text, "warning {rule}: {}{line}", warning.message);
    }
    text
}

pub(crate) fn error(error: &PlanError) -> String {
    let lines = error.lines.map_or(String::new(), |it| {
        format!(" (lines {}-{})", it.first_line, it.last_line)
    });
    let mut text = format!("error: {error}{lines}\n");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let _ = writeln!(text, "caused by: {cause}");
        source = cause.source();
    }
    text
}

fn image(plan: &Plan) -> String {
    let ImageConfig {
        config,
        history,
        rootfs,
        author,
        created,
        ..
    } = &plan.config;
    assert_eq!(*created, None, "the engine says when");
    let json = serde_json::to_string_pretty(config).expect("a config is JSON");
    let mut text = format!("\nconfig {json}\n");
    if !author.is_empty() {
        let _ = writeln!(text, "author {author}");
    }
    let _ = writeln!(text, "base layers {}", rootfs.diff_ids.len());
    let mut layers = plan.layers.iter();
    let mut base = rootfs.diff_ids.len();
    for (index, entry) in history.iter().enumerate() {
        let made_by = match (entry.empty_layer, base) {
            (true, _) => String::new(),
            (false, 0) => {
                let layer = layers.next().expect("a history entry stands for a layer");
                assert_eq!(layer.history, index, "layers and history go together");
                input(layer.output)
            }
            (false, _) => {
                base -= 1;
                "base".to_owned()
            }
        };
        let mark = if entry.comment == "buildkit.dockerfile.v0" {
            ""
        } else {
            " (not ours)"
        };
        let _ = writeln!(
            text,
            "history {made_by:>4} | {}{mark}",
            entry.created_by.replace('\n', "\\n")
        );
    }
    assert_eq!(
        (layers.next(), base),
        (None, 0),
        "every layer has a history entry"
    );
    text
}

fn op(vertex: &Vertex) -> Vec<String> {
    let from = |number: usize| input(vertex.inputs[number]);
    match &vertex.op {
        Op::Source(Source::Image(image)) => {
            vec![format!(
                "image {} with {} layers",
                image.reference,
                image.diff_ids.len()
            )]
        }
        Op::Source(Source::Local(local)) => {
            vec![format!("local {} without {:?}", local.name, local.ignore)]
        }
        Op::Source(Source::Http(http)) => {
            let mut text = format!("http {} as {} {:o}", http.url, http.filename, http.mode);
            if let Some(checksum) = &http.checksum {
                let _ = write!(text, " is {checksum}");
            }
            vec![text]
        }
        Op::Source(Source::Git(git)) => {
            let mut text = format!(
                "git {} at {:?} below {}",
                git.remote, git.reference, git.subdir
            );
            if let Some(checksum) = &git.checksum {
                let _ = write!(text, " is {checksum}");
            }
            for (is_so, word) in [
                (git.keep_git_dir, " with .git"),
                (!git.submodules, " without submodules"),
                (git.times == GitTimes::Commit, " of the commit's time"),
                (git.fetch_by_commit, " by commit"),
            ] {
                if is_so {
                    text.push_str(word);
                }
            }
            vec![text]
        }
        Op::Exec(exec) => self::exec(exec, &from),
        Op::File(file) => file
            .actions
            .iter()
            .map(|action| {
                let kept = if action.output { "" } else { " ..." };
                format!(
                    "on {} {}{kept}",
                    tree(action.base, &from),
                    change(&action.change, &from)
                )
            })
            .collect(),
        Op::Merge => vec![format!(
            "merge {}",
            vertex
                .inputs
                .iter()
                .map(|it| input(*it))
                .collect::<Vec<_>>()
                .join(" ")
        )],
        Op::Diff => vec!["diff".to_owned()],
    }
}

fn exec(exec: &Exec, from: &dyn Fn(usize) -> String) -> Vec<String> {
    let mut lines = vec![format!("exec {:?}", exec.args)];
    let env: Vec<&str> = exec
        .env
        .iter()
        .map(String::as_str)
        .filter(|it| *it != DEFAULT_PATH)
        .collect();
    let mut how = format!("in {}", exec.cwd);
    if !exec.user.is_empty() {
        let _ = write!(how, " as {}", exec.user);
    }
    if exec.network != Network::Default {
        let _ = write!(how, " network {:?}", exec.network);
    }
    if exec.security != Security::Sandbox {
        let _ = write!(how, " security {:?}", exec.security);
    }
    if exec.hostname != "buildkitsandbox" {
        let _ = write!(how, " host {}", exec.hostname);
    }
    if let Some(size) = exec.shm_size {
        let _ = write!(how, " shm {size}");
    }
    for (host, address) in &exec.extra_hosts {
        let _ = write!(how, " {host}={address}");
    }
    lines.push(how);
    if !env.is_empty() {
        lines.push(format!("env {env:?}"));
    }
    for device in &exec.devices {
        let required = if device.required { " required" } else { "" };
        lines.push(format!("device {}{required}", device.name));
    }
    if exec.terms != llb::op::Terms::default() {
        lines.push(format!("terms {:?}", exec.terms));
    }
    if !exec.unkeyed_env.is_empty() {
        lines.push(format!("unkeyed {:?}", exec.unkeyed_env));
    }
    lines.extend(exec.mounts.iter().map(|it| mount(it, from)));
    lines
}

fn mount(mount: &Mount, from: &dyn Fn(usize) -> String) -> String {
    let tree = |input: &Option<usize>| input.map_or("scratch".to_owned(), from);
    let owner = |(mode, uid, gid): (u32, u32, u32)| format!("{mode:04o} {uid}:{gid}");
    let what = match &mount.kind {
        MountKind::Bind { input, selector } => format!("bind {} {selector}", tree(input)),
        MountKind::Cache {
            id,
            sharing,
            input,
            selector,
            owner: own,
        } => {
            format!(
                "cache {id} {sharing:?} {} {selector} {}",
                tree(input),
                owner(*own)
            )
        }
        MountKind::Tmpfs { size } => format!("tmpfs {size:?}"),
        MountKind::Secret {
            id,
            required,
            owner: own,
            env,
        } => {
            let env = env
                .as_ref()
                .map_or(String::new(), |it| format!(" as ${it}"));
            format!(
                "secret {id} {}{env}{}",
                owner(*own),
                if *required { " required" } else { "" }
            )
        }
        MountKind::Ssh {
            id,
            required,
            owner: own,
        } => {
            format!(
                "ssh {id} {}{}",
                owner(*own),
                if *required { " required" } else { "" }
            )
        }
    };
    let access = if mount.read_only { " ro" } else { "" };
    format!(
        "mount {} = {what}{access}{}",
        mount.target,
        if mount.output { " kept" } else { "" }
    )
}

fn change(change: &FileChange, from: &dyn Fn(usize) -> String) -> String {
    match change {
        FileChange::Copy(copy) => self::copy(copy, from),
        FileChange::MakeFile {
            path,
            data,
            mode,
            owner,
            name,
        } => {
            let name = name
                .as_ref()
                .map_or(String::new(), |it| format!(" called {it}"));
            let data = String::from_utf8_lossy(data);
            format!(
                "make file {path}{name} {mode:04o}{} {data:?}",
                self::owner(owner, from)
            )
        }
        FileChange::MakeDirectory { path, mode, owner } => {
            format!(
                "make directory {path} {mode:04o}{}",
                self::owner(owner, from)
            )
        }
        FileChange::Remove { path, .. } => format!("remove {path}"),
    }
}

fn copy(copy: &Copy, from: &dyn Fn(usize) -> String) -> String {
    let mut text = format!(
        "copy {} {} to {}",
        tree(copy.from, from),
        copy.source,
        copy.destination
    );
    text.push_str(&owner(&copy.owner, from));
    if let Some(mode) = &copy.mode {
        match mode {
            ModeChange::Octal(mode) => write!(text, " mode {mode:04o}"),
            ModeChange::Symbolic(mode) => write!(text, " mode {mode}"),
        }
        .expect("a text takes everything");
    }
    for (is, word) in [
        (copy.wildcard, "wildcard"),
        (copy.unpack, "unpack"),
        (copy.parents, "parents"),
    ] {
        if is {
            let _ = write!(text, " {word}");
        }
    }
    if !copy.exclude.is_empty() {
        let _ = write!(text, " without {:?}", copy.exclude);
    }
    text
}

fn owner(owner: &Option<Owner>, from: &dyn Fn(usize) -> String) -> String {
    use llb::op::{OwnerNames, UserName};
    let name = |it: &UserName| match it {
        UserName::Id(id) => id.to_string(),
        UserName::Name(name) => format!("{name:?}"),
    };
    owner.as_ref().map_or(String::new(), |it| {
        let group = it.group.as_ref().map_or("its group".to_owned(), name);
        let names = match it.names {
            OwnerNames::Changed => String::new(),
            OwnerNames::ChangedOrRoot => " or root".to_owned(),
            OwnerNames::Input(input) => format!(" of {}", from(input)),
        };
        format!(" owner {}:{group}{names}", name(&it.user))
    })
}

fn tree(tree: Tree, from: &dyn Fn(usize) -> String) -> String {
    match tree {
        Tree::Scratch => "scratch".to_owned(),
        Tree::Input(number) => from(number),
        Tree::Action(number) => format!("action {number}"),
    }
}

fn input(input: Input) -> String {
    match input.output {
        0 => format!("#{}", input.vertex.index()),
        output => format!("#{}.{output}", input.vertex.index()),
    }
}
