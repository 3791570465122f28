//! Runs the credential helpers of docker, as programs of the person at the command line. What their answers mean is
//! left to others.

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use tagpin_registry::{CredentialHelpers, HelperAnswer, HelperError, HelperName};

/// Maximum size of an answer, in bytes.
const ANSWER: usize = 64 * 1024;

/// The credential helpers in the folders of `PATH`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Programs;

#[async_trait]
impl CredentialHelpers for Programs {
    async fn get(
        &self,
        helper: &HelperName,
        registry: &str,
        limit: Duration,
    ) -> Result<HelperAnswer, HelperError> {
        // Errors of the helper are for the person, who also may have to type a password.
        let started = Command::new(helper.to_string())
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = started.map_err(|error| HelperError::NotStarted(error.kind()))?;
        let answer = timeout(limit, answer(&mut child, registry)).await;
        // An error means that the program has ended by itself.
        let _ = child.start_kill();
        answer.unwrap_or(Err(HelperError::Late(limit)))
    }
}

/// Writes the registry to the helper, and reads its answer.
async fn answer(child: &mut Child, registry: &str) -> Result<HelperAnswer, HelperError> {
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read its input may still answer.
        let _ = input.write_all(registry.as_bytes()).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let most = u64::try_from(ANSWER).unwrap_or(u64::MAX).saturating_add(1);
        stdout.take(most).read_to_end(&mut output).await.map_err(|_| HelperError::Failed)?;
    }
    if output.len() > ANSWER {
        return Err(HelperError::TooLarge(ANSWER));
    }
    let status = child.wait().await.map_err(|_| HelperError::Failed)?;
    Ok(HelperAnswer { success: status.success(), output })
}
