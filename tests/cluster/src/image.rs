//! Images without a registry: built here, handed to nodes as archives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::run;
use crate::tools::{Tool, cache, ensure, lock};
use crate::{ClusterError, packages};

/// How long a build may take; those of Rust programs are long.
const BUILD_WAIT: Duration = Duration::from_secs(3600);
/// The base that Dockerfiles name; here it is made of Debian packages.
const BASE: &str = "docker.io/library/debian:bookworm-slim";

/// An image that nodes can load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The name by which pods ask for it.
    pub tag: String,
    /// The image with its layers.
    pub archive: PathBuf,
}

/// The recipe of an image.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    /// The Dockerfile.
    pub dockerfile: &'a Path,
    /// The folder whose files it copies.
    pub context: &'a Path,
    /// The stage that becomes the image; the last one where absent.
    pub target: Option<&'a str>,
    /// Further folders, by the names that the Dockerfile has for them.
    pub contexts: &'a [(&'a str, &'a Path)],
}

impl<'a> Recipe<'a> {
    /// A Dockerfile's last stage over the files of a folder.
    pub fn new(dockerfile: &'a Path, context: &'a Path) -> Self {
        Self { dockerfile, context, target: None, contexts: &[] }
    }
}

/// Builds an image and names it `tag`, such as `localhost/heteroloco:test`. Its base can be
/// `docker.io/library/debian:bookworm-slim`, which is
/// made here, an image that was built before, or `scratch`. Steps whose files and commands are the
/// same as last time are not done again.
///
/// # Errors
/// Without root or Debian packages, or when a step of the Dockerfile fails.
pub async fn build_image(recipe: Recipe<'_>, tag: &str) -> Result<Image, ClusterError> {
    let _turn = prepare().await?;
    let text = fs::read_to_string(recipe.dockerfile);
    let path = recipe.dockerfile.display();
    let text = text.map_err(ClusterError::io(format!("read {path}")))?;
    if text.contains("debian:bookworm-slim") {
        base().await?;
    }
    build(recipe, tag).await
}

/// The image of the program that holds a pod's namespaces.
pub(crate) async fn pause(tag: &str) -> Result<Image, ClusterError> {
    ensure(&[Tool::Pause]).await?;
    let _turn = prepare().await?;
    let dockerfile = images().join("pause.Dockerfile");
    let text = "FROM scratch\nCOPY pause /pause\nENTRYPOINT [\"/pause\"]\n";
    fs::write(&dockerfile, text).map_err(ClusterError::io("write the pause image's Dockerfile"))?;
    let context = images().join("pause");
    fs::create_dir_all(&context)
        .and_then(|()| fs::copy(Tool::Pause.path(), context.join("pause")))
        .map_err(ClusterError::io("copy the pause program"))?;
    build(Recipe::new(&dockerfile, &context), tag).await
}

fn images() -> PathBuf {
    cache().join("images")
}

/// Checks that images can be built and waits for the turn to do so.
async fn prepare() -> Result<fs::File, ClusterError> {
    crate::network::need_root("build an image")?;
    packages::ensure(&packages::IMAGES).await?;
    lock(&images()).await
}

/// Makes the base image unless it is there.
async fn base() -> Result<(), ClusterError> {
    let name = format!("reference={BASE}");
    let there =
        run(buildah(&["images", "--noheading", "--filter", &name]), b"", BUILD_WAIT).await?;
    if !there.is_empty() {
        return Ok(());
    }
    let context = images().join("base");
    fs::create_dir_all(&context).map_err(ClusterError::io("make a folder for the base image"))?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--include=ca-certificates", "bookworm"]);
    command.arg(context.join("base.tar"));
    run(command, b"", BUILD_WAIT).await?;
    let dockerfile = images().join("base.Dockerfile");
    let text = "FROM scratch\nADD base.tar /\nCMD [\"bash\"]\n";
    fs::write(&dockerfile, text).map_err(ClusterError::io("write the base image's Dockerfile"))?;
    build(Recipe::new(&dockerfile, &context), BASE).await?;
    let tar = context.join("base.tar");
    fs::remove_file(tar).map_err(ClusterError::io("remove the base image's files"))
}

async fn build(recipe: Recipe<'_>, tag: &str) -> Result<Image, ClusterError> {
    let id_file = images().join("id");
    let mut command = buildah(&["build", "--layers", "--pull-never", "--tag", tag, "--iidfile"]);
    command.arg(&id_file).arg("--file").arg(recipe.dockerfile);
    if let Some(target) = recipe.target {
        command.args(["--target", target]);
    }
    for (name, folder) in recipe.contexts {
        command.arg("--build-context").arg(format!("{name}={}", folder.display()));
    }
    command.arg(recipe.context);
    run(command, b"", BUILD_WAIT).await?;
    let id = fs::read_to_string(&id_file).map_err(ClusterError::io("read an image's id"))?;
    let id = id.trim().trim_start_matches("sha256:");
    // The archive holds the name as well: two names of one image are two archives.
    let hash = blake3::hash(tag.as_bytes()).to_hex();
    let archive = images().join(format!("{}-{}.tar", &hash[..8], &id[..id.len().min(24)]));
    if !archive.is_file() {
        forget_archives(&hash[..8])?;
        let unfinished = archive.with_extension("new");
        let to = format!("docker-archive:{}:{tag}", unfinished.display());
        run(buildah(&["push", id, &to]), b"", BUILD_WAIT).await?;
        fs::rename(&unfinished, &archive).map_err(ClusterError::io("keep an image's archive"))?;
    }
    Ok(Image { tag: tag.to_owned(), archive })
}

/// Removes what was once the image of this name, and what a killed push left of it.
fn forget_archives(name: &str) -> Result<(), ClusterError> {
    let failed = || ClusterError::io("remove an old image's archive");
    for entry in fs::read_dir(images()).map_err(failed())?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(name) {
            fs::remove_file(entry.path()).map_err(failed())?;
        }
    }
    Ok(())
}

/// A buildah with a storage of the harness's own.
fn buildah(args: &[&str]) -> Command {
    let mut command = Command::new("buildah");
    command.env("STORAGE_DRIVER", "overlay").env("BUILDAH_ISOLATION", "chroot");
    command.arg("--root").arg(images().join("storage"));
    command.arg("--runroot").arg(images().join("run")).args(args);
    command
}
