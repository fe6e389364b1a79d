//! Where things are: the project, the image under test, and the folders for runs and saved machines.

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use sha2::{Digest, Sha256};

use crate::{OrFail, fail};

/// The project's folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).or_fail("The crate is not two folders below the project.").to_owned()
}

/// The image under test: `QUANTIX_IMAGE`, or what `make image` builds.
pub fn image() -> PathBuf {
    let image = std::env::var_os("QUANTIX_IMAGE")
        .map_or_else(|| root().join("out/image/quantix.raw"), |path| root().join(path));
    if !image.exists() {
        fail(format!("The image {} is missing. Run `make image` first.", image.display()));
    }
    image
}

/// A folder below `out/`, made if it is not there.
pub fn out(folder: &str) -> PathBuf {
    let path = root().join("out").join(folder);
    fs::create_dir_all(&path).or_fail(format!("Making {}", path.display()));
    path
}

/// Tells one build of an image from another without reading a gigabyte.
pub fn fingerprint(image: &Path) -> String {
    let about = fs::metadata(image).or_fail(format!("Looking at {}", image.display()));
    let modified =
        about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let text = format!("{} {} {}", image.display(), about.len(), modified.as_nanos());
    hex(&Sha256::digest(text.as_bytes())[..8])
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
