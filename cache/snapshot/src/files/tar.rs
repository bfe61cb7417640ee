//! All that a chain shows as one tar.

use std::io::{Read, Write};

use super::{FilesError, Links, Plain, Shown, unread};
use crate::archive::{Header, Writer};
use crate::tree::{Entry, Kind};
use crate::walk::read_some;

const BUFFER: usize = 256 << 10;

pub(super) fn write(shown: &Shown, plain: &Plain, out: &mut dyn Write) -> Result<u64, FilesError> {
    let prefix = plain.below.as_ref().map(|it| format!("{it}/"));
    let mut pack = Pack {
        shown,
        prefix: prefix.unwrap_or_default().into_bytes(),
        epoch: plain.epoch,
        writer: Writer::new(out),
        links: Links::default(),
        size: 0,
        buffer: vec![0; BUFFER],
    };
    if !pack.prefix.is_empty() {
        let header = Header {
            path: &pack.prefix.clone(),
            letter: b'5',
            mode: 0o755,
            mtime: plain.epoch.unwrap_or(0),
            ..Header::default()
        };
        pack.header(&header)?;
    }
    for entry in shown.entries() {
        pack.entry(entry)?;
    }
    pack.writer.finish().map_err(FilesError::Tar)?;
    Ok(pack.size)
}

struct Pack<'a> {
    shown: &'a Shown,
    prefix: Vec<u8>,
    epoch: Option<i64>,
    writer: Writer<&'a mut dyn Write>,
    links: Links,
    size: u64,
    /// What has been read of a file and not yet been written.
    buffer: Vec<u8>,
}

impl Pack<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), FilesError> {
        let path = [&self.prefix[..], &entry.path].concat();
        let xattrs = entry.travelling();
        let header = Header {
            mtime: self.epoch.unwrap_or(entry.mtime.0),
            ..Header::of(entry, &path, &xattrs)
        };
        match &entry.kind {
            Kind::File { size, link, .. } => self.file(entry, header, *size, *link),
            Kind::Directory { .. } => {
                let path = [&path[..], b"/"].concat();
                self.header(&Header {
                    letter: b'5',
                    path: &path,
                    ..header
                })
            }
            Kind::Symlink(_) | Kind::Character(..) | Kind::Block(..) | Kind::Fifo => {
                self.header(&header)
            }
            Kind::Socket | Kind::Whiteout => Ok(()),
        }
    }

    fn file(
        &mut self,
        entry: &Entry,
        header: Header<'_>,
        size: u64,
        link: u32,
    ) -> Result<(), FilesError> {
        let mut file = self.shown.file(entry)?;
        if let Some(first) = self.links.first(entry, &file, link)? {
            let target = [&self.prefix[..], &first].concat();
            return self.header(&Header {
                letter: b'1',
                target: &target,
                xattrs: &[],
                ..header
            });
        }
        self.header(&Header {
            letter: b'0',
            size,
            ..header
        })?;
        let mut content = Read::by_ref(&mut file).take(size);
        let mut left = size;
        while left > 0 {
            let length = read_some(&mut content, &mut self.buffer).map_err(unread(entry))?;
            if length == 0 {
                let short = std::io::ErrorKind::UnexpectedEof.into();
                return Err(unread(entry)(short));
            }
            left -= length as u64;
            self.writer
                .content(&self.buffer[..length])
                .map_err(FilesError::Tar)?;
        }
        self.size += size;
        Ok(())
    }

    fn header(&mut self, header: &Header<'_>) -> Result<(), FilesError> {
        self.writer.header(header).map_err(FilesError::Tar)
    }
}
