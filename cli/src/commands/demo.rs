//! stub
use crate::exit::{Exit, Outcome};
/// x
#[derive(Debug, clap::Args)]
pub struct Arguments {}
/// x
#[derive(Debug, clap::Args)]
pub struct ServiceArguments {}
/// x
pub async fn run(_: Arguments) -> Outcome {
    Ok(Exit::Done)
}
/// x
pub async fn serve(_: ServiceArguments) -> Outcome {
    Ok(Exit::Done)
}
