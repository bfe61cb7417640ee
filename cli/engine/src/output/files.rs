//! The files of a result as a directory or a tar.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use lower::Plan;
use snapshot::Plain;

use super::attest;
use crate::report::Errand;
use crate::request::Files;
use crate::solving::Solved;
use crate::{ExportError, Job, Output};

/// Gives the files away as each of the request's outputs asks.
pub(super) fn export(job: &Job<'_>, solved: &Solved) -> Result<(), ExportError> {
    for output in &job.request.outputs {
        match output {
            Output::Local(files) => {
                let copy = |errand: &Errand<'_>| directory(job, solved, files, errand);
                job.reporter.errand("exporting to client directory", copy)?;
            }
            Output::Tar(files) => {
                let pack = |errand: &Errand<'_>| tar(job, solved, files, errand);
                job.reporter.errand("exporting to client tarball", pack)?;
            }
            Output::Image | Output::Push(_) | Output::CacheOnly => {}
        }
    }
    Ok(())
}

fn directory(
    job: &Job<'_>,
    solved: &Solved,
    files: &Files,
    errand: &Errand<'_>,
) -> Result<u64, ExportError> {
    let snapshots = &job.engine.snapshots;
    let to = files.destination.as_deref().unwrap_or(Path::new("."));
    let mut bytes = 0;
    let said = attest::predicates(job, solved, &[], errand)?;
    let outputs = job.targets.iter().zip(&solved.outputs);
    for ((target, output), said) in outputs.zip(&said) {
        let plain = plain(job, target, files);
        let top = super::top(job, output.as_ref(), errand)?;
        let top = attest::beside_files(job, top, said, &files.attestation_prefix)?;
        let name = match job.targets.len() {
            1 => "copying files".to_owned(),
            _ => format!("copying files {}", target.platform),
        };
        let copied = errand.part(
            &name,
            || snapshots.write_directory(top, &plain, to),
            |copied| copied.as_ref().copied().unwrap_or(0),
        );
        bytes += copied.map_err(ExportError::Files)?;
    }
    Ok(bytes)
}

fn tar(
    job: &Job<'_>,
    solved: &Solved,
    files: &Files,
    errand: &Errand<'_>,
) -> Result<u64, ExportError> {
    let snapshots = &job.engine.snapshots;
    let (target, output) = (&job.targets[0], solved.outputs[0].as_ref());
    let plain = plain(job, target, files);
    let top = super::top(job, output, errand)?;
    let said = attest::predicates(job, solved, &[], errand)?;
    let top = attest::beside_files(job, top, &said[0], &files.attestation_prefix)?;
    let write = |out: &mut dyn Write| snapshots.write_tar(top, &plain, out);
    let pack = || match &files.destination {
        None => write(&mut BufWriter::new(io::stdout().lock())).map_err(ExportError::Files),
        Some(path) => whole(path, |file| write(file)),
    };
    errand.part("sending tarball", pack, |sent| {
        sent.as_ref().copied().unwrap_or(0)
    })
}

/// Of several platforms, each has a directory of its own.
fn plain(job: &Job<'_>, target: &Plan, files: &Files) -> Plain {
    let name = || target.platform.to_string().replace('/', "_");
    Plain {
        epoch: files.epoch.or(target.source_date_epoch),
        below: (files.platform_split || job.targets.len() > 1).then(name),
    }
}

/// Writes a file that is there whole or not at all.
fn whole<T>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, snapshot::FilesError>,
) -> Result<T, ExportError> {
    let failed = |source| ExportError::Write {
        path: path.to_owned(),
        source,
    };
    // A device or a pipe takes what comes, and is no file to be replaced.
    let is_other = std::fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir());
    if is_other {
        let file = File::options().write(true).open(path).map_err(failed)?;
        return write(&mut BufWriter::new(file)).map_err(ExportError::Files);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".rbuild-{}", std::process::id()));
    let beside = Beside(path.with_file_name(name));
    let file = File::create(&beside.0).map_err(failed)?;
    let written = write(&mut BufWriter::new(file)).map_err(ExportError::Files)?;
    std::fs::rename(&beside.0, path).map_err(failed)?;
    Ok(written)
}

/// A file that is not what it is to be yet; removed where it does not come to that.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        // After the rename there is nothing of that name.
        let _ = std::fs::remove_file(&self.0);
    }
}
