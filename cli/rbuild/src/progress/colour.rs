//! Which colour says what. Nothing is said by colour alone.

use anstyle::{AnsiColor, Color, RgbColor, Style};

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Still going on, or talk.
    Plain,
    /// Ended well.
    Done,
    /// Given up.
    Canceled,
    /// Failed.
    Failed,
    /// Should be looked at.
    Warning,
    /// What a process writes.
    Faint,
}

/// A style for every [`Tone`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Colours {
    run: Style,
    cancel: Style,
    error: Style,
    warning: Style,
    faint: Style,
}

impl Colours {
    /// No colour at all, as `NO_COLOR` asks for.
    pub(crate) const NONE: Self = Self {
        run: Style::new(),
        cancel: Style::new(),
        error: Style::new(),
        warning: Style::new(),
        faint: Style::new(),
    };

    /// BuildKit's own choice.
    pub(crate) const USUAL: Self = Self {
        run: AnsiColor::Blue.on_default(),
        cancel: AnsiColor::Yellow.on_default(),
        error: AnsiColor::Red.on_default(),
        warning: AnsiColor::Yellow.on_default(),
        faint: Style::new().dimmed(),
    };

    /// The colours that the variables `NO_COLOR` and `BUILDKIT_COLORS` ask for.
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        if variable("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            return Self::NONE;
        }
        variable("BUILDKIT_COLORS").map_or(Self::USUAL, |text| Self::parse(&text))
    }

    /// Reads `run=green:warning=yellow:error=red:cancel=255,165,0`. What is not understood keeps its
    /// usual colour: a build must not fail for a colour.
    fn parse(text: &str) -> Self {
        let mut colours = Self::USUAL;
        for (name, value) in text.split(':').filter_map(|field| field.split_once('=')) {
            let Some(colour) = colour(value) else {
                continue;
            };
            let style = Style::new().fg_color(Some(colour));
            match name {
                "run" => colours.run = style,
                "cancel" => colours.cancel = style,
                "error" => colours.error = style,
                "warning" => colours.warning = style,
                _ => {}
            }
        }
        colours
    }

    /// `text` in the colour of `tone`.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Plain => Style::new(),
            Tone::Done => self.run,
            Tone::Canceled => self.cancel,
            Tone::Failed => self.error,
            Tone::Warning => self.warning,
            Tone::Faint => self.faint,
        };
        format!("{style}{text}{style:#}")
    }
}

fn colour(value: &str) -> Option<Color> {
    let named = match value {
        "black" => AnsiColor::Black,
        "red" => AnsiColor::Red,
        "green" => AnsiColor::Green,
        "yellow" => AnsiColor::Yellow,
        "blue" => AnsiColor::Blue,
        "magenta" => AnsiColor::Magenta,
        "cyan" => AnsiColor::Cyan,
        "white" => AnsiColor::White,
        "light-black" => AnsiColor::BrightBlack,
        "light-red" => AnsiColor::BrightRed,
        "light-green" => AnsiColor::BrightGreen,
        "light-yellow" => AnsiColor::BrightYellow,
        "light-blue" => AnsiColor::BrightBlue,
        "light-magenta" => AnsiColor::BrightMagenta,
        "light-cyan" => AnsiColor::BrightCyan,
        "light-white" => AnsiColor::BrightWhite,
        rgb => {
            let parts: Vec<u8> = rgb
                .split(',')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .ok()?;
            let [red, green, blue] = parts[..] else {
                return None;
            };
            return Some(RgbColor(red, green, blue).into());
        }
    };
    Some(named.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colours(no_color: &str, buildkit: &str) -> Colours {
        let variables = [("NO_COLOR", no_color), ("BUILDKIT_COLORS", buildkit)];
        Colours::from_environment(|name| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            (!value.is_empty()).then(|| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_chooses() {
        assert_eq!(colours("", ""), Colours::USUAL);
        assert_eq!(colours("1", "run=green"), Colours::NONE);
        let chosen = colours("", "run=light-green:cancel=255,165,0:error=nonsense:bogus");
        assert_eq!(chosen.paint(Tone::Done, "x"), "\u{1b}[92mx\u{1b}[0m");
        assert_eq!(
            chosen.paint(Tone::Canceled, "x"),
            "\u{1b}[38;2;255;165;0mx\u{1b}[0m"
        );
        assert_eq!(chosen.paint(Tone::Failed, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Colours::NONE.paint(Tone::Failed, "x"), "x");
    }
}
