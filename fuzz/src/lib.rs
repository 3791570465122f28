//! What the fuzz targets share: `targets` says what each does, and the tests replay its corpus through the same functions.

mod support;

pub mod targets;
