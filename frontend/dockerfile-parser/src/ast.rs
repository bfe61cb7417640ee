//! The tree a Dockerfile is read into. Words stand in it as written: expansion is lowering's work,
//! because only lowering knows the values.

use crate::shape;

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dockerfile {
    /// What the comments at the very top say to the parser.
    pub directives: Directives,
    /// The instructions in their order, those that were understood.
    pub instructions: Vec<Instruction>,
}

/// What `# key=value` comments at the top of a file say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The frontend image that the file asks for, with where that stands.
    pub syntax: Option<(String, Span)>,
    /// The escape character: `\` or `` ` ``.
    pub escape: char,
    /// The text of `check=`, with where it stands.
    pub check: Option<(String, Span)>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            syntax: None,
            escape: '\\',
            check: None,
        }
    }
}

/// Where something stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
    /// Line of the first byte, from one.
    pub first_line: usize,
    /// Line of the last byte.
    pub last_line: usize,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The whole of it, continuation lines and heredoc bodies included.
    pub span: Span,
    /// The logical line with continuations joined, without heredoc bodies: `RUN make all`.
    pub original: String,
    /// The comment lines directly above, without `#` and blanks around.
    pub comments: Vec<String>,
    /// What it says.
    pub kind: InstructionKind,
}

impl Instruction {
    /// Its first word as written, `run`.
    pub fn keyword(&self) -> &str {
        shape::split_first(&self.original).0
    }

    /// Whether here-documents follow its line.
    pub fn has_heredocs(&self) -> bool {
        match &self.kind {
            InstructionKind::Run { heredocs, .. } => !heredocs.is_empty(),
            InstructionKind::Copy(it) | InstructionKind::Add(it) => it
                .sources
                .iter()
                .any(|it| matches!(it, TransferSource::Heredoc(_))),
            InstructionKind::OnBuild { trigger, .. } => trigger.has_heredocs(),
            _ => false,
        }
    }
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstructionKind {
    /// `FROM [--platform=P] IMAGE [AS NAME]`
    From {
        /// `--platform`
        platform: Option<String>,
        /// An image, a stage, or `scratch`.
        image: String,
        /// The stage's name as written.
        name: Option<String>,
        /// The word `AS` as written, where there is a name.
        as_keyword: Option<String>,
    },
    /// `ARG NAME[=DEFAULT] …`
    Arg(Vec<(String, Option<String>)>),
    /// `ENV KEY=VALUE …`
    Env(KeyValues),
    /// `LABEL KEY=VALUE …`
    Label(KeyValues),
    /// `RUN …`
    Run {
        /// The flags as written. Those of `--mount` and `--device` may stand more than once.
        flags: Vec<Flag>,
        /// What runs.
        command: Command,
        /// Here-documents of the command.
        heredocs: Vec<Heredoc>,
    },
    /// `CMD …`
    Cmd(Command),
    /// `ENTRYPOINT …`
    Entrypoint(Command),
    /// `SHELL ["…"]`
    Shell(Vec<String>),
    /// `COPY …`
    Copy(Transfer),
    /// `ADD …`
    Add(Transfer),
    /// `WORKDIR PATH`
    Workdir(String),
    /// `USER NAME[:GROUP]`
    User(String),
    /// `EXPOSE PORT …`
    Expose(Vec<String>),
    /// `VOLUME PATH …`
    Volume(Vec<String>),
    /// `STOPSIGNAL SIGNAL`
    StopSignal(String),
    /// `HEALTHCHECK …`
    Healthcheck(Healthcheck),
    /// `ONBUILD INSTRUCTION`
    OnBuild {
        /// The trigger's text, as it goes into the image.
        text: String,
        /// The trigger, read.
        trigger: Box<Instruction>,
    },
    /// `MAINTAINER TEXT`
    Maintainer(String),
}

/// `KEY=VALUE` pairs, or the one pair of the legacy form `KEY VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValues {
    /// Both sides as written, quotes included.
    pub pairs: Vec<(String, String)>,
    /// Whether the pair was written without `=`.
    pub legacy: bool,
}

/// A `--name[=value]` in front of an instruction's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// What stands behind `=`; `None` where there is no `=`.
    pub value: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// Something to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A text for the shell. Of a `RUN` with heredocs it is the line with the `<<NAME` still in it.
    Shell(String),
    /// JSON form: the arguments themselves.
    Exec(Vec<String>),
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without its quotes.
    pub name: String,
    /// Whether variables in it are expanded: no part of the delimiter was quoted.
    pub expand: bool,
    /// Whether leading tabs go (`<<-`); `content` has lost them already.
    pub chomp: bool,
    /// The number in front of `<<`, 0 where there is none.
    pub file_descriptor: u32,
    /// The body, with its last newline.
    pub content: String,
}

/// The words of a `COPY` or an `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The flags as written; lowering says which it knows.
    pub flags: Vec<Flag>,
    /// What is copied, in order.
    pub sources: Vec<TransferSource>,
    /// Where to.
    pub destination: String,
}

/// One source of a [`Transfer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferSource {
    /// A path, an address, a repository.
    Path(String),
    /// A file with the heredoc's name and content.
    Heredoc(Heredoc),
}

/// `HEALTHCHECK`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK [flags] CMD …`
    Cmd {
        /// `--interval` and the like, as written.
        flags: Vec<Flag>,
        /// What asks.
        command: Command,
    },
}
