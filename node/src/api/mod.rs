//! stub
use crate::driver::NodeHandle;
/// x
#[derive(Debug, thiserror::Error)]
pub enum ApiError {}
/// x
pub fn serve(_: std::path::PathBuf, _: NodeHandle) -> Result<impl Future<Output = Result<(), ApiError>>, ApiError> { Ok(std::future::pending()) }
