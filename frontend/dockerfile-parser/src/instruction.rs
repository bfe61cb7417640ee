//! From a logical line to an instruction.

use std::collections::HashMap;
use std::ops::Range;

use crate::flag::{self, FlagError, FlagWord};
use crate::heredoc::{self, Document};
use crate::line::Logical;
use crate::shape::{self, Json};
use crate::words::ExpandError;
use crate::{
    Case, Command, Flag, Healthcheck, Instruction, InstructionKind, KeyValues, Span, Transfer,
    TransferSource, duration, quote, suggest,
};

const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

const UNKNOWN: &str = "unknown instruction: ";

/// What a stage may be called.
const STAGE_NAME: &str = "it is made of letters, digits, `-`, `_` and `.`, a letter first";

/// How an instruction with one argument or more is written.
fn usage(name: &str) -> &'static str {
    match name {
        "ADD" | "COPY" => "SOURCE… DESTINATION",
        "ARG" => "ARG NAME[=DEFAULT]",
        "ENV" => "ENV KEY=VALUE",
        "EXPOSE" => "EXPOSE PORT[/PROTOCOL]",
        "HEALTHCHECK" => "HEALTHCHECK CMD COMMAND",
        "LABEL" => "LABEL KEY=VALUE",
        "MAINTAINER" => "MAINTAINER NAME",
        "ONBUILD" => "ONBUILD INSTRUCTION",
        "SHELL" => "SHELL [\"/bin/bash\", \"-c\"]",
        "STOPSIGNAL" => "STOPSIGNAL SIGNAL",
        "USER" => "USER NAME[:GROUP]",
        "VOLUME" => "VOLUME PATH",
        "WORKDIR" => "WORKDIR PATH",
        _ => "a command, or [\"PROGRAM\", \"ARGUMENT\"]",
    }
}

/// The instruction that `word` begins with, if a blank behind it was forgotten: `RUN["a"]`.
pub(crate) fn unspaced(word: &str) -> Option<&'static str> {
    let end = word.find(|it: char| !it.is_ascii_alphabetic())?;
    let name = known(&word[..end])?;
    matches!(word.as_bytes()[end], b'[' | b'"' | b'\'' | b'$' | b'/').then_some(name)
}

/// The instruction that `keyword` is.
fn known(keyword: &str) -> Option<&'static str> {
    let mut names = NAMES.into_iter();
    names.find(|it| it.eq_ignore_ascii_case(keyword))
}

/// What is wrong with an instruction, in BuildKit's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            suggestion: None,
        }
    }

    /// The word that should have been an instruction, if nothing known is near to it.
    pub(crate) fn unknown_instruction(&self) -> Option<&str> {
        let word = self.message.strip_prefix(UNKNOWN)?;
        (self.suggestion.is_none() && !word.is_empty()).then_some(word)
    }

    fn suggesting(message: String, suggestion: Option<String>) -> Self {
        let message = match &suggestion {
            Some(suggestion) => format!("{message} (did you mean {suggestion}?)"),
            None => message,
        };
        Self {
            message,
            suggestion,
        }
    }
}

impl From<FlagError> for Fault {
    fn from(error: FlagError) -> Self {
        let message = error.to_string();
        let suggestion = if let FlagError::Unknown { suggestion, .. } = error {
            suggestion
        } else {
            None
        };
        Self::suggesting(message, suggestion)
    }
}

impl From<ExpandError> for Fault {
    fn from(error: ExpandError) -> Self {
        Self::new(error.to_string())
    }
}

/// An instruction's line, taken apart but not yet understood.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    logical: &'a Logical,
    escape: char,
    pub(crate) keyword: &'a str,
    /// The keyword in capitals; empty where it is none.
    name: &'static str,
    flags: Vec<FlagWord>,
    arguments: &'a str,
    /// Where in the logical line it begins and ends.
    range: Range<usize>,
    arguments_at: usize,
}

impl<'a> Parts<'a> {
    /// Takes apart what stands in `logical` from `start` on.
    pub(crate) fn split(logical: &'a Logical, start: usize, escape: char) -> Self {
        let text = &logical.text[start..];
        let start = start + (text.len() - text.trim_start().len());
        let text = text.trim();
        let (keyword, rest) = shape::split_first(text);
        let rest = rest.unwrap_or_default();
        let rest_at = start + text.len() - rest.len();
        let (mut flags, arguments_at) = flag::split_off(rest, escape);
        for word in &mut flags {
            word.range = word.range.start + rest_at..word.range.end + rest_at;
        }
        let arguments = rest[arguments_at..].trim_start();
        let range = start..start + text.len();
        let arguments_at = range.end - arguments.len();
        Self {
            logical,
            escape,
            keyword,
            name: known(keyword).unwrap_or_default(),
            flags,
            arguments,
            range,
            arguments_at,
        }
    }

    /// The line, trimmed.
    pub(crate) fn original(&self) -> &'a str {
        &self.logical.text[self.range.clone()]
    }

    /// The instruction behind `ONBUILD`.
    fn trigger(&self) -> Self {
        Self::split(self.logical, self.arguments_at, self.escape)
    }

    /// Whether `<<NAME` opens a heredoc here.
    pub(crate) fn takes_heredocs(&self) -> bool {
        let is = |parts: &Self| matches!(parts.name, "RUN" | "COPY" | "ADD");
        if !self.arguments.contains("<<") {
            return false;
        }
        if is(self) {
            return shape::json(self.arguments) == Json::No;
        }
        if self.name != "ONBUILD" {
            return false;
        }
        let trigger = self.trigger();
        is(&trigger) && shape::json(trigger.arguments) == Json::No
    }

    /// Understands it. `documents` are the heredocs that its line opens, `span` is all of it.
    pub(crate) fn understand(
        &self,
        documents: &[Document],
        span: Span,
    ) -> Result<Instruction, Fault> {
        Ok(Instruction {
            span,
            original: self.original().to_owned(),
            comments: Vec::new(),
            kind: self.kind(documents, span)?,
        })
    }

    fn kind(&self, documents: &[Document], span: Span) -> Result<InstructionKind, Fault> {
        match self.name {
            "FROM" => self.from(),
            "ARG" => self.arg(),
            "ENV" => self.key_values().map(InstructionKind::Env),
            "LABEL" => self.key_values().map(InstructionKind::Label),
            "RUN" => self.run(documents),
            "CMD" => self.command_alone().map(InstructionKind::Cmd),
            "ENTRYPOINT" => self.command_alone().map(InstructionKind::Entrypoint),
            "SHELL" => self.shell(),
            "COPY" => self
                .transfer(flag::COPY, documents)
                .map(InstructionKind::Copy),
            "ADD" => self
                .transfer(flag::ADD, documents)
                .map(InstructionKind::Add),
            "WORKDIR" => self.text().map(InstructionKind::Workdir),
            "USER" => self.text().map(InstructionKind::User),
            "MAINTAINER" => self.text().map(InstructionKind::Maintainer),
            "STOPSIGNAL" => self.only_argument().map(InstructionKind::StopSignal),
            "EXPOSE" => self.expose(),
            "VOLUME" => self.volume(),
            "HEALTHCHECK" => self.healthcheck().map(InstructionKind::Healthcheck),
            "ONBUILD" => self.on_build(documents, span),
            _ => {
                let suggestion = suggest(self.keyword, NAMES, Case::Insensitive);
                Err(Fault::suggesting(
                    format!("{UNKNOWN}{}", self.keyword),
                    suggestion,
                ))
            }
        }
    }

    fn flags(&self, known: flag::Known) -> Result<Vec<Flag>, Fault> {
        Ok(flag::read(&self.flags, known, |range| {
            self.logical.span_of(range)
        })?)
    }

    fn only_argument(&self) -> Result<String, Fault> {
        if self.arguments.is_empty() {
            return Err(Fault::new(format!(
                "{} requires exactly one argument: {}",
                self.name,
                usage(self.name)
            )));
        }
        Ok(self.arguments.to_owned())
    }

    fn at_least_one_argument(&self) -> Fault {
        Fault::new(format!(
            "{} requires at least one argument: {}",
            self.name,
            usage(self.name)
        ))
    }

    /// One argument and no flags.
    fn text(&self) -> Result<String, Fault> {
        let text = self.only_argument()?;
        self.flags(flag::NONE)?;
        Ok(text)
    }

    fn command(&self) -> Result<Command, Fault> {
        command(self.arguments)
    }

    fn command_alone(&self) -> Result<Command, Fault> {
        let command = self.command()?;
        self.flags(flag::NONE)?;
        Ok(command)
    }

    /// A JSON array of strings, or words between blanks; and which of them.
    fn list(&self) -> Result<(Vec<String>, Form), Fault> {
        match shape::json(self.arguments) {
            Json::Strings(strings) => Ok((strings, Form::Json)),
            Json::OtherArray => Err(not_strings()),
            Json::No => Ok((shape::list(self.arguments), Form::Words)),
        }
    }

    fn from(&self) -> Result<InstructionKind, Fault> {
        let words = shape::list(self.arguments);
        let (image, stage) = match words.as_slice() {
            [image, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
                if !is_stage_name(&name.to_lowercase()) {
                    let name = quote(name);
                    return Err(Fault::new(format!(
                        "invalid name for build stage: {name}, name can't start with a number or contain symbols: {STAGE_NAME}"
                    )));
                }
                (image, Some((keyword, name)))
            }
            [image] => (image, None),
            _ => {
                return Err(Fault::new(
                    "FROM requires either one or three arguments: FROM IMAGE [AS NAME]",
                ));
            }
        };
        let platform = self
            .flags(flag::FROM)?
            .into_iter()
            .next()
            .and_then(|flag| flag.value);
        Ok(InstructionKind::From {
            platform,
            image: image.clone(),
            name: stage.map(|(_, name)| name.clone()),
            as_keyword: stage.map(|(keyword, _)| keyword.clone()),
        })
    }

    fn arg(&self) -> Result<InstructionKind, Fault> {
        let words = shape::quoted_words(self.arguments, self.escape);
        if words.is_empty() {
            return Err(self.at_least_one_argument());
        }
        let declared = words.into_iter().map(|word| match word.split_once('=') {
            Some(("", _)) => Err(Fault::new("ARG names can not be blank: ARG NAME[=DEFAULT]")),
            Some((name, default)) => Ok((name.to_owned(), Some(default.to_owned()))),
            None => Ok((word, None)),
        });
        declared.collect::<Result<_, _>>().map(InstructionKind::Arg)
    }

    fn key_values(&self) -> Result<KeyValues, Fault> {
        let values = self.unchecked_key_values()?;
        self.flags(flag::NONE)?;
        if values.pairs.is_empty() {
            return Err(self.at_least_one_argument());
        }
        if values.pairs.iter().any(|(key, _)| key.is_empty()) {
            return Err(Fault::new(format!(
                "{0} names can not be blank: {0} KEY=VALUE",
                self.name
            )));
        }
        Ok(values)
    }

    fn unchecked_key_values(&self) -> Result<KeyValues, Fault> {
        let words = shape::quoted_words(self.arguments, self.escape);
        if words.first().is_some_and(|word| !word.contains('=')) {
            let (key, Some(value)) = shape::split_first(self.arguments) else {
                return Err(Fault::new(format!(
                    "{0} must have two arguments: {0} KEY=VALUE",
                    self.name
                )));
            };
            return Ok(KeyValues {
                pairs: vec![(key.to_owned(), value.to_owned())],
                legacy: true,
            });
        }
        let mut pairs = Vec::with_capacity(words.len());
        for word in &words {
            let Some((key, value)) = word.split_once('=') else {
                let word = quote(word);
                return Err(Fault::new(format!(
                    "Syntax error - can't find = in {word}. Must be of the form: name=value (a value with blanks needs quotes)"
                )));
            };
            pairs.push((key.to_owned(), value.to_owned()));
        }
        Ok(KeyValues {
            pairs,
            legacy: false,
        })
    }

    fn run(&self, documents: &[Document]) -> Result<InstructionKind, Fault> {
        let command = self.command()?;
        Ok(InstructionKind::Run {
            flags: self.flags(flag::RUN)?,
            command,
            heredocs: documents.iter().map(Document::to_heredoc).collect(),
        })
    }

    fn shell(&self) -> Result<InstructionKind, Fault> {
        let command = self.command()?;
        self.flags(flag::NONE)?;
        match command {
            Command::Exec(shell) if !shell.is_empty() => Ok(InstructionKind::Shell(shell)),
            Command::Shell(text) if !text.is_empty() => Err(Fault::new(
                "SHELL requires the arguments to be in JSON form, with double quotes: SHELL [\"/bin/bash\", \"-c\"]",
            )),
            _ => Err(self.at_least_one_argument()),
        }
    }

    fn transfer(&self, known: flag::Known, documents: &[Document]) -> Result<Transfer, Fault> {
        let (mut words, form) = self.list()?;
        let name = &self.name;
        let destination = words.pop().filter(|_| !words.is_empty()).ok_or_else(|| {
            let provided = if self.arguments.is_empty() {
                "none"
            } else {
                "only one"
            };
            Fault::new(format!(
                "{name} requires at least two arguments, but {provided} was provided. \
                 Destination could not be determined: {name} SOURCE… DESTINATION"
            ))
        })?;
        let flags = self.flags(known)?;
        // A malformed delimiter is no heredoc, it is a path with an odd name.
        let opening = |word: &str| {
            if form == Form::Json {
                None
            } else {
                heredoc::opening(word).unwrap_or(None)
            }
        };
        if opening(&destination).is_some() {
            return Err(Fault::new(format!(
                "{name} cannot accept a heredoc as a destination: it stands before the path it is written to"
            )));
        }
        // Of several with one name the last wins, as it would in the directory they go to.
        let by_name: HashMap<&str, &Document> = documents
            .iter()
            .map(|it| (it.opening.name.as_str(), it))
            .collect();
        let source = |word: String| match opening(&word) {
            Some(opening) => {
                let document = by_name.get(opening.name.as_str());
                let content = document.map(|it| it.content()).unwrap_or_default();
                TransferSource::Heredoc(opening.to_heredoc(content))
            }
            None => TransferSource::Path(word),
        };
        Ok(Transfer {
            flags,
            sources: words.into_iter().map(source).collect(),
            destination,
        })
    }

    fn expose(&self) -> Result<InstructionKind, Fault> {
        let ports = shape::list(self.arguments);
        if ports.is_empty() {
            return Err(self.at_least_one_argument());
        }
        self.flags(flag::NONE)?;
        Ok(InstructionKind::Expose(ports))
    }

    fn volume(&self) -> Result<InstructionKind, Fault> {
        let (paths, _) = self.list()?;
        if paths.is_empty() {
            return Err(self.at_least_one_argument());
        }
        self.flags(flag::NONE)?;
        let paths: Vec<String> = paths.iter().map(|path| path.trim().to_owned()).collect();
        if paths.iter().any(String::is_empty) {
            return Err(Fault::new("VOLUME specified can not be an empty string"));
        }
        Ok(InstructionKind::Volume(paths))
    }

    fn healthcheck(&self) -> Result<Healthcheck, Fault> {
        if self.arguments.is_empty() {
            return Err(self.at_least_one_argument());
        }
        let (kind, rest) = self
            .arguments
            .split_once(char::is_whitespace)
            .unwrap_or((self.arguments, ""));
        let command = command(rest.trim_start())?;
        let is_empty = matches!(&command, Command::Shell(text) if text.is_empty())
            || matches!(&command, Command::Exec(words) if words.is_empty());
        let kind = kind.to_uppercase();
        if kind == "NONE" {
            return if is_empty {
                Ok(Healthcheck::None)
            } else {
                Err(Fault::new(
                    "HEALTHCHECK NONE takes no arguments: it switches off the check of the base",
                ))
            };
        }
        let flags = self.flags(flag::HEALTHCHECK)?;
        if kind != "CMD" {
            return Err(Fault::new(format!(
                "Unknown type {} in HEALTHCHECK (try CMD: HEALTHCHECK CMD COMMAND)",
                quote(&kind)
            )));
        }
        if is_empty {
            return Err(Fault::new(
                "Missing command after HEALTHCHECK CMD: HEALTHCHECK CMD COMMAND",
            ));
        }
        check_healthcheck_flags(&flags)?;
        Ok(Healthcheck::Cmd { flags, command })
    }

    fn on_build(&self, documents: &[Document], span: Span) -> Result<InstructionKind, Fault> {
        if self.arguments.is_empty() {
            return Err(self.at_least_one_argument());
        }
        self.flags(flag::NONE)?;
        let trigger = self.trigger();
        check_is_trigger(trigger.keyword)?;
        let start = self.logical.span_of(trigger.range.clone());
        let span = Span {
            end: span.end,
            last_line: span.last_line,
            ..start
        };
        let instruction = trigger.understand(documents, span)?;
        let mut text = trigger.original().to_owned();
        for document in documents {
            text.push('\n');
            text.push_str(&document.raw);
            text.push_str(&document.opening.name);
        }
        Ok(InstructionKind::OnBuild {
            text,
            trigger: Box::new(instruction),
        })
    }
}

/// Whether an instruction may stand behind `ONBUILD`.
pub(crate) fn check_is_trigger(keyword: &str) -> Result<(), Fault> {
    match keyword.to_uppercase().as_str() {
        "ONBUILD" => Err(Fault::new(
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed: a trigger sets no trigger",
        )),
        name @ ("FROM" | "MAINTAINER") => Err(Fault::new(format!(
            "{name} isn't allowed as an ONBUILD trigger: it is for instructions that come behind FROM"
        ))),
        _ => Ok(()),
    }
}

/// How a list was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Words,
}

fn not_strings() -> Fault {
    Fault::new(
        "when using JSON array syntax, arrays must be comprised of strings only: put each word in double quotes",
    )
}

/// A JSON array of strings, or a text for the shell: also what was meant as JSON and is none.
fn command(text: &str) -> Result<Command, Fault> {
    match shape::json(text) {
        Json::Strings(words) => Ok(Command::Exec(words)),
        Json::OtherArray => Err(not_strings()),
        Json::No => Ok(Command::Shell(text.to_owned())),
    }
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|ch: char| ch.is_ascii_lowercase())
        && name
            .chars()
            .all(|ch| matches!(ch, 'a'..='z' | '0'..='9' | '-' | '_' | '.'))
}

/// The smallest interval that is none of "as inherited".
const ONE_MILLISECOND: i64 = 1_000_000;

fn check_healthcheck_flags(flags: &[Flag]) -> Result<(), Fault> {
    let value = |name: &str| {
        flags
            .iter()
            .find(|flag| flag.name == name)?
            .value
            .as_deref()
    };
    for name in ["interval", "timeout", "start-period", "start-interval"] {
        let Some(text) = value(name).filter(|text| !text.is_empty()) else {
            continue;
        };
        let nanoseconds = duration::parse(text).map_err(|error| Fault::new(error.to_string()))?;
        if nanoseconds != 0 && nanoseconds < ONE_MILLISECOND {
            return Err(Fault::new(format!(
                "Interval {} cannot be less than 1ms (or 0, which leaves it to the runtime)",
                quote(name)
            )));
        }
    }
    let Some(text) = value("retries").filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    let retries: i32 = text.parse().map_err(|_| {
        Fault::new(format!(
            "invalid value {} for --retries: it is a whole number up to 2147483647",
            quote(text)
        ))
    })?;
    if retries < 0 {
        return Err(Fault::new(format!(
            "--retries cannot be negative ({retries})"
        )));
    }
    Ok(())
}
