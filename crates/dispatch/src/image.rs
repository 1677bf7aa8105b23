//! Which container images the machine's own programs can stand for where a command names one.

/// Images of an ordinary Linux system or of a language runtime that the machine has itself, whatever their tag.
pub const LOCAL_IMAGES: [&str; 5] = ["alpine", "debian", "ubuntu", "python", "node"];

/// Ways to write the names of official images in full.
const PREFIXES: [&str; 3] = ["docker.io/library/", "library/", "docker.io/"];

/// Whether a command in this image can run with the machine's own programs instead.
#[must_use]
pub fn runs_locally(image: &str) -> bool {
    let short = PREFIXES.iter().find_map(|prefix| image.strip_prefix(prefix)).unwrap_or(image);
    let name = short.split(['@', ':']).next().unwrap_or_default();
    LOCAL_IMAGES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_system_images_are_local_whatever_their_tag() {
        let images =
            ["alpine:latest", "alpine", "python:3.11-slim", "node:20-slim", "docker.io/library/debian:12"];
        for image in images {
            assert!(runs_locally(image), "{image}");
        }
    }

    #[test]
    fn other_images_are_not() {
        for image in ["rust:1.80", "someone/alpine", "alpine-evil:1", "", "ghcr.io/x/python:3"] {
            assert!(!runs_locally(image), "{image}");
        }
    }
}
