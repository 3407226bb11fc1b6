//! A store of its own, with short patience, and an image that is worth a partial download.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore::image::{Attempts, Images, Present, Progress, PullError, RegistrySettings, Settings, Timeouts};
use longshore::model::ImageReference;

use crate::image_support::{Image, file, gzip, image, sha, tar, told};

pub(crate) fn parse(name: &str) -> ImageReference {
    ImageReference::parse(name).unwrap()
}

pub(crate) fn quick() -> Settings {
    let short = Duration::from_millis(500);
    let timeouts = Timeouts { connect: 2 * short, progress: short, exchange: 4 * short };
    let attempts = Attempts { fruitless: 3, longest_wait: Duration::from_secs(1) };
    Settings { timeouts, attempts, ..Settings::default() }
}

pub(crate) fn registries(all: impl IntoIterator<Item = (String, RegistrySettings)>) -> Settings {
    Settings { registries: all.into_iter().collect::<BTreeMap<_, _>>(), ..quick() }
}

/// An image of one layer of about 1.5 MiB that does not shrink, and the layer's digest.
pub(crate) fn large() -> (Image, String) {
    let mut state = 7u64;
    let noise: String = (0..1_600_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + (state >> 40) as u8 % 90)
        })
        .collect();
    let archive = tar(&[file("hello", &noise)]);
    let packed = gzip(&archive);
    let digest = sha(&packed);
    assert!(packed.len() > 1 << 20, "{}", packed.len());
    (image(&[(archive, packed)]), digest)
}

pub(crate) struct Here {
    pub(crate) images: Images,
    pub(crate) dir: tempfile::TempDir,
}

impl Here {
    pub(crate) fn new(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { images: Images::open(dir.path(), settings).unwrap(), dir }
    }
    pub(crate) async fn pull_with(&self, name: &str, progress: &Progress) -> Result<Present, PullError> {
        let name = parse(name);
        let pulled = tokio::time::timeout(Duration::from_secs(30), self.images.pull(&name, None, progress));
        pulled.await.expect("no pull waits for ever")
    }
    pub(crate) async fn pull(&self, name: &str) -> Result<Present, String> {
        self.pull_with(name, &Progress::default()).await.map_err(|e| told(&e))
    }
    pub(crate) fn partials(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("partial")).unwrap().count()
    }
}
