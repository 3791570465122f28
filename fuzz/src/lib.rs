//! The code that the fuzz targets share: `targets` defines each target, and the tests replay its corpus through the
//! same functions.

mod support;

pub mod targets;
