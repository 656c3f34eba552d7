//! `raftq cluster backup`, `restore` and `verify`: files that hold a whole cluster, and replicas compared.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use futures::TryStreamExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

use crate::{
    api::ErrorBody,
    cli::{
        context::Context,
        failure::{Exit, Failure, Outcome},
    },
    client::{Call, ClientError, path_with_query},
    server::{BackupSummary, examine_backup},
};

/// How long a node may take to write the snapshot that it hands out: as long as it takes at most.
const SNAPSHOT_TIME: Duration = Duration::from_secs(3600);
/// Sending and restoring a backup takes as long as its size needs; beyond this something is wrong.
const RESTORE_TIME: Duration = Duration::from_secs(6 * 3600);
const PIECE_BYTES: usize = 1 << 20;

#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// The file to write; it must not exist yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// What `cluster backup` wrote
    file: PathBuf,
    /// The highest job id the old cluster gave, where it is known; without it ids jump far beyond what it can have given
    #[arg(long, value_name = "ID")]
    after_job: Option<u64>,
    /// Let jobs run at once; without it all queues stay paused until `raftq resume --all`
    #[arg(long)]
    resume: bool,
}

/// Writes beside the final name, and takes that only once all of it is there, on disk and whole.
pub async fn backup(context: &Context, args: &BackupArgs) -> Outcome {
    if args.out.exists() {
        return Err(Failure::usage(format!("{} exists already; name another file", args.out.display())));
    }
    let partial = Partial::beside(&args.out);
    fetch(context, &partial.0).await?;
    let summary = examined(context, &partial.0)?;
    keep(&partial.0, &args.out).with_context(|| format!("cannot write {}", args.out.display()))?;
    print(context, &args.out, &summary)
}

/// A file that is deleted unless it got its final name.
struct Partial(PathBuf);

impl Partial {
    fn beside(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        Self(name.into())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It has its final name, or is of no use.
        drop(fs::remove_file(&self.0));
    }
}

async fn fetch(context: &Context, path: &Path) -> Result<(), Failure> {
    let deadline = context.end_of_wait().unwrap_or_else(|| Instant::now() + SNAPSHOT_TIME * 2);
    let call = context.call(Call::read("/v1/cluster/backup", deadline)).waiting(SNAPSHOT_TIME);
    let mut download = context.client.download(call).await?;
    let unwritable = || format!("cannot write {}", path.display());
    // What jobs were told is in it, secrets among that: it is for whoever asked for it.
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).with_context(unwritable)?;
    let bar = context.output.progress(download.length, "receiving");
    while let Some(piece) = download.next().await? {
        file.write_all(&piece).with_context(unwritable)?;
        bar.inc(piece.len() as u64);
    }
    bar.finish_and_clear();
    Ok(file.sync_all().with_context(unwritable)?)
}

fn keep(partial: &Path, out: &Path) -> std::io::Result<()> {
    fs::rename(partial, out)?;
    let directory = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(directory)?.sync_all()
}

/// What a backup holds, read to its end.
pub fn verify(context: &Context, path: &Path) -> Outcome {
    let summary = examined(context, path)?;
    print(context, path, &summary)
}

fn examined(context: &Context, path: &Path) -> Result<BackupSummary, Failure> {
    let length = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    let bar = context.output.progress(Some(length), "verifying");
    let summary = examine_backup(path, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    Ok(summary.with_context(|| format!("{} is no backup to rely on", path.display()))?)
}

fn print(context: &Context, path: &Path, summary: &BackupSummary) -> Outcome {
    let document = json!({
        "file": path.display().to_string(),
        "cluster": summary.cluster.to_string(),
        "index": summary.index,
        "taken_at": summary.taken,
        "live_jobs": summary.live_jobs,
        "ended_jobs": summary.ended_jobs,
        "archived_jobs": summary.archived_jobs,
        "last_job": summary.last_job,
        "drained": summary.drained,
        "members": summary.members,
        "state_hash": format!("{:032x}", summary.state_hash),
        "rows": summary.rows,
        "rows_hash": format!("{:032x}", summary.rows_hash),
        "bytes": summary.bytes,
    });
    context.output.document(&document)?;
    Ok(Exit::Ok)
}

/// Sends a backup to a node of a cluster that is yet to be formed.
pub async fn restore(context: &Context, args: &RestoreArgs) -> Outcome {
    let backup = examined(context, &args.file)?;
    must_be_pristine(context).await?;
    let mut query = vec![("paused", (!args.resume).to_string())];
    query.extend(args.after_job.map(|id| ("after_job", id.to_string())));
    let file = tokio::fs::File::open(&args.file).await?;
    let bar = context.output.progress(Some(backup.bytes), "sending");
    let sent = bar.clone();
    let pieces = ReaderStream::with_capacity(file, PIECE_BYTES).inspect_ok(move |piece| sent.inc(piece.len() as u64));
    let deadline = context.end_of_wait().unwrap_or_else(|| Instant::now() + RESTORE_TIME);
    let path = path_with_query("/v1/cluster/restore", &query);
    let restored = context.client.upload(&path, backup.bytes, pieces, deadline).await;
    bar.finish_and_clear();
    let restored: Value = restored?.json()?;
    context.output.document(&restored)?;
    advise(context, &restored);
    Ok(Exit::Ok)
}

/// Asked before the file is sent: an answer while it is on its way could get lost.
async fn must_be_pristine(context: &Context) -> Result<(), Failure> {
    let node: Value = context.client.call(Call::read("/v1/cluster", context.deadline()).local()).await?.json()?;
    if node["role"] == "pristine" {
        return Ok(());
    }
    let message = format!(
        "node {} already belongs to a cluster; a restore forms a new one, of nodes with empty data directories that were \
         started without --init-if-new",
        node["id"]
    );
    Err(ClientError::Refused(ErrorBody::new("conflict", message)).into())
}

fn advise(context: &Context, restored: &Value) {
    if restored["led"] == false {
        context.output.note("restored, but no leader yet: see `raftq cluster status`");
    }
    if restored["paused"] == true {
        context.output.note("nothing runs yet: look at the jobs, then say `raftq resume --all`");
    }
    if restored["backup"]["drained"] == true {
        context.output.note("submissions are closed, as they were: `raftq drain off` opens them");
    }
}
