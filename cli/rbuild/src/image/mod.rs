//! Commands about images that exist.

mod archive;
mod blame;
mod board;
mod diff;
pub(crate) mod engines;
mod filter;
mod history;
mod inspect;
mod ls;
mod prune;
mod pull;
mod push;
mod rm;
mod search;
mod tag;
mod tree;

#[cfg(test)]
mod tests;

use oci::ImageConfig;
use snapshot::How;
use store::{ImageRecord, SnapshotRow, Store};

use crate::fault::Fault;

pub(crate) use archive::{ArchiveTo, import, load, save, write};
pub(crate) use blame::blame;
pub(crate) use board::Audience;
pub(crate) use diff::diff;
pub(crate) use history::history;
pub(crate) use inspect::inspect;
pub(crate) use ls::{list, ls};
pub(crate) use prune::prune;
pub(crate) use pull::{Wanted, bring, chosen_platform, platform, pull};
pub(crate) use push::push;
pub(crate) use rm::rm;
pub(crate) use search::search;
pub(crate) use tag::tag;
pub(crate) use tree::tree;

/// The image that people mean by `word`.
fn find(store: &Store, word: &str) -> Result<ImageRecord, Fault> {
    store.resolve(word).map_err(|error| {
        let unknown = matches!(error, store::ResolveError::Unknown(_));
        let fault = Fault::from(error);
        if unknown {
            fault.hint("`rbuild images` lists what there is")
        } else {
            fault
        }
    })
}

/// The layers of an image, lowest first.
fn chain(store: &Store, image: &ImageRecord) -> Result<Vec<SnapshotRow>, Fault> {
    match image.top {
        Some(top) => Ok(store.ancestry(top)?),
        None if image.diff_ids.is_empty() => Ok(Vec::new()),
        None => {
            let message = format!(
                "the store does not have the files of image {}",
                image.id.short()
            );
            Err(anyhow::Error::msg(message).into())
        }
    }
}

/// Text in which nothing moves the cursor.
fn visible(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let escaped = text.chars().map(|it| match it.is_control() {
        true => it.escape_default().to_string(),
        false => it.to_string(),
    });
    escaped.collect()
}

/// What is different of something that is there before and after.
fn difference(how: &How) -> String {
    match how {
        How::New | How::Gone => String::new(),
        How::Kind => "another kind of file".to_owned(),
        How::Content => "content".to_owned(),
        How::Mode(old, new) => format!("mode {old:04o} -> {new:04o}"),
        How::Owner(old, new) => format!("owner {}:{} -> {}:{}", old.0, old.1, new.0, new.1),
        How::Attributes => "extended attributes".to_owned(),
        How::Links => "names of the same file".to_owned(),
        How::Time(..) => "time".to_owned(),
    }
}

/// Text that is cut behind so many columns.
fn ellipsis(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns - 1).chain(['…']).collect()
}

/// The config of an image.
pub(crate) fn config(store: &Store, image: &ImageRecord) -> Result<ImageConfig, ConfigError> {
    let bytes = std::io::read_to_string(store.open_blob(&image.id)?).map_err(|source| {
        ConfigError::Read {
            id: image.id,
            source,
        }
    })?;
    serde_json::from_str(&bytes).map_err(|source| ConfigError::Parse {
        id: image.id,
        source,
    })
}

/// Why an image's config cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(transparent)]
    Open(#[from] store::StoreError),
    #[error("cannot read the config {id}")]
    Read {
        id: oci::Digest,
        #[source]
        source: std::io::Error,
    },
    #[error("the config {id} is none")]
    Parse {
        id: oci::Digest,
        #[source]
        source: serde_json::Error,
    },
}

/// `2 weeks ago`; `N/A` where nobody knows.
fn ago(time: Option<jiff::Timestamp>) -> String {
    let Some(time) = time else {
        return "N/A".to_owned();
    };
    let elapsed = jiff::Timestamp::now().duration_since(time);
    format!(
        "{} ago",
        crate::human::duration(elapsed.try_into().unwrap_or_default())
    )
}

/// A time as Go prints it, in the time zone of the machine.
pub(crate) fn clock_time(time: Option<jiff::Timestamp>) -> String {
    let Some(time) = time else {
        return "N/A".to_owned();
    };
    let zoned = time.to_zoned_datetime(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}
