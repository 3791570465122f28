//! Finds credentials: in pull secrets, in docker configurations, and at the clouds that run registries.

pub(crate) mod cloud;
pub(crate) mod docker_config;
pub(crate) mod keyring;
pub(crate) mod operator;
pub(crate) mod provider;
pub(crate) mod pull_secrets;
