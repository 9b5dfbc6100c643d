//! The paths of the API.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use baton_protocol::fleet::command::{Order, PolicyChange};
use baton_protocol::fleet::policy::{Cap, OnFailure};
use baton_protocol::id::{GroupName, NodeName, PermitId, RolloutId, ServiceName, Version};
use baton_protocol::peer::{Answer, Failure, Operation, Peer};
use baton_protocol::time::Instant;
use serde::{Deserialize, Serialize};

use super::view;
use crate::driver::{NodeHandle, Seed, SeedError};

/// Lines of output that one request may have.
const LINES_MAX: u32 = 10_000;

/// All paths.
pub(super) fn all(node: NodeHandle) -> Router {
    Router::new()
        .route("/v1/status", get(async |State(node): Node| look(&node, view::status).await))
        .route(
            "/v1/nodes",
            get(async |State(node): Node| look(&node, |it, _| view::nodes(it)).await),
        )
        .route(
            "/v1/groups",
            get(async |State(node): Node| look(&node, |it, _| view::groups(it)).await),
        )
        .route(
            "/v1/releases",
            get(async |State(node): Node| look(&node, |it, _| view::releases(it)).await),
        )
        .route(
            "/v1/permits",
            get(async |State(node): Node| look(&node, |it, _| view::permits(it)).await),
        )
        .route(
            "/v1/transfers",
            get(async |State(node): Node| look(&node, |it, _| view::transfers(it)).await),
        )
        .route(
            "/v1/audit",
            get(async |State(node): Node| look(&node, |it, _| view::audit(it)).await),
        )
        .route("/v1/balancers/{group}", get(balancer))
        .route("/v1/rollouts/{group}", get(rollout))
        .route("/v1/rollouts/{group}/orders", post(order))
        .route("/v1/rollouts", post(deploy))
        .route("/v1/plan", post(plan))
        .route("/v1/seed", post(seed))
        .route("/v1/seeds", get(async |State(node): Node| Json(view::seeds(node.packing()))))
        .route("/v1/groups/{group}", post(set_group))
        .route("/v1/permits/{permit}/override", post(override_permit))
        .route("/v1/nodes/{name}/quarantine", post(quarantine))
        .route("/v1/nodes/{name}", delete(remove))
        .route("/v1/logs/{group}", get(logs))
        .fallback(async || problem("unknown", "there is no such path"))
        .method_not_allowed_fallback(async || problem("refused", "not on this path"))
        .with_state(node)
}

type Node = State<NodeHandle>;
type Reply<T> = Result<Json<T>, Problem>;

/// What a request gets instead of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, and what to do.
    pub error: String,
    /// `refused`, `conflict`, `no-quorum`, `busy`, `unknown`.
    pub kind: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = match self.kind.as_str() {
            "conflict" => StatusCode::CONFLICT,
            "no-quorum" | "busy" => StatusCode::SERVICE_UNAVAILABLE,
            "unknown" => StatusCode::NOT_FOUND,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        (status, Json(self)).into_response()
    }
}

/// A request's JSON; what is wrong with it is told as all else is.
#[derive(FromRequest)]
#[from_request(via(Json), rejection(Problem))]
struct Body<T>(T);

/// What stands behind a path's question mark.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
struct Query<T>(T);

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        problem("refused", rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        problem("refused", rejection.body_text())
    }
}

fn problem(kind: &str, error: impl ToString) -> Problem {
    Problem { error: error.to_string(), kind: kind.to_owned() }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let kind = match &failure {
            Failure::Refused(_) => "refused",
            Failure::Conflict(_) => "conflict",
            Failure::NoQuorum(_) => "no-quorum",
            Failure::Busy => "busy",
        };
        problem(kind, failure)
    }
}

async fn look<T: Send + 'static + Serialize>(
    node: &NodeHandle,
    view: impl FnOnce(&Peer, Instant) -> T + Send + 'static,
) -> Reply<T> {
    node.look(view).await.map(Json).ok_or_else(|| problem("busy", "the node is shutting down"))
}

fn parsed<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| problem("refused", error.to_string()))
}

#[derive(Serialize)]
struct Done {
    rollout: Option<String>,
}

async fn operate(node: &NodeHandle, operation: Operation) -> Reply<Done> {
    let rollout = match node.operate(operation).await? {
        Answer::Done => None,
        Answer::Rollout(rollout) => Some(rollout.to_string()),
    };
    Ok(Json(Done { rollout }))
}

#[derive(Deserialize)]
struct Which {
    /// A rollout's id; without it the last one is meant.
    id: Option<String>,
}

async fn rollout(
    State(node): Node,
    Path(group): Path<String>,
    Query(which): Query<Which>,
) -> Reply<view::RolloutView> {
    let name: GroupName = parsed(&group)?;
    let id = which.id.as_deref().map(parsed::<RolloutId>).transpose()?;
    let Json(found) = look(&node, move |peer, now| view::rollout(peer, now, &name, id)).await?;
    let none = || match id {
        Some(id) => problem("unknown", format!("there is no rollout {id} on {group}")),
        None => problem("unknown", format!("there was no rollout on {group} yet")),
    };
    found.map(Json).ok_or_else(none)
}

async fn balancer(
    State(node): Node,
    Path(group): Path<String>,
) -> Reply<super::balancer::BalancerView> {
    let name: GroupName = parsed(&group)?;
    let viewed = look(&node, move |peer, now| super::balancer::balancer(peer, now, &name));
    let found = viewed.await?.0;
    found.map(Json).ok_or_else(|| problem("unknown", format!("there is no group {group}")))
}

#[derive(Deserialize)]
struct OrderBody {
    order: String,
    person: String,
}

async fn order(
    State(node): Node,
    Path(group): Path<String>,
    Body(body): Body<OrderBody>,
) -> Reply<Done> {
    let order = match body.order.as_str() {
        "pause" => Order::Pause,
        "resume" => Order::Resume,
        "promote" => Order::Promote,
        "abort" => Order::Abort,
        "rollback" => Order::Rollback,
        other => return Err(problem("refused", format!("\"{other}\" is no order"))),
    };
    let group = parsed(&group)?;
    operate(&node, Operation::Steer { group, order, person: body.person }).await
}

#[derive(Deserialize)]
struct Target {
    group: String,
    /// A version or a release's id.
    release: Option<String>,
    #[serde(default)]
    back: bool,
    #[serde(default)]
    person: String,
}

async fn deploy(State(node): Node, Body(body): Body<Target>) -> Reply<Done> {
    let group: GroupName = parsed(&body.group)?;
    let text = body.release.unwrap_or_default();
    let (name, wanted) = (group.clone(), text.clone());
    let Json(found) = look(&node, move |peer, _| view::find_release(peer, &name, &wanted)).await?;
    let release = found.ok_or_else(|| {
        problem("refused", format!("there is no release \"{text}\" for {group}: baton releases"))
    })?;
    let deploy = Operation::Deploy { group, release, back: body.back, person: body.person };
    operate(&node, deploy).await
}

async fn plan(State(node): Node, Body(body): Body<Target>) -> Reply<view::Plan> {
    let group: GroupName = parsed(&body.group)?;
    let planned = look(&node, move |peer, now| {
        let wanted = body.release.as_deref();
        let release = wanted.and_then(|text| view::find_release(peer, &group, text));
        match (wanted, release) {
            (Some(text), None) => Err(format!("there is no release \"{text}\" for {group}")),
            _ => view::plan(peer, now, &group, release),
        }
    });
    planned.await?.0.map(Json).map_err(|error| problem("refused", error))
}

#[derive(Deserialize)]
struct SeedBody {
    directory: std::path::PathBuf,
    service: Option<ServiceName>,
    version: Option<Version>,
}

/// A release that was seeded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeededView {
    /// Its id.
    pub release: String,
    /// Of which service.
    pub service: String,
    /// What it is called.
    pub version: String,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Number of its files.
    pub files: u64,
    /// Whether it was here already, so that nothing was done.
    pub known: bool,
    /// Whether the log has it; without a quorum it spreads all the same, and cannot be rolled out yet.
    pub registered: bool,
    /// Why the log does not have it.
    pub obstacle: Option<String>,
}

async fn seed(State(node): Node, Body(body): Body<SeedBody>) -> Reply<SeededView> {
    let SeedBody { directory, service, version } = body;
    let seeded =
        node.seed(Seed { directory, service, version }).await.map_err(|error| match error {
            SeedError::Ending => problem("busy", error),
            _ => problem("refused", error),
        })?;
    let header = seeded.header.header().map_err(|error| problem("refused", error))?;
    let registered = node.operate(Operation::Register { header: seeded.header.clone() }).await;
    let obstacle = match registered {
        Ok(_) => None,
        Err(Failure::NoQuorum(why)) => Some(why),
        Err(other) => return Err(other.into()),
    };
    Ok(Json(SeededView {
        release: seeded.header.id().to_string(),
        service: header.service.to_string(),
        version: header.version.to_string(),
        size_bytes: header.size_bytes,
        files: header.files,
        known: seeded.known,
        registered: obstacle.is_none(),
        obstacle,
    }))
}

/// What a person changes of a group; what is left out stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupBody {
    /// A count, a percentage or both: `2`, `10%`, `2,10%`.
    pub max_unavailable: Option<String>,
    /// Half of the members and more may go.
    pub allow_half: Option<bool>,
    /// The only member may go.
    pub allow_downtime: Option<bool>,
    /// Milliseconds.
    pub min_healthy_ms: Option<u64>,
    /// It may be 0.
    pub allow_unproven: Option<bool>,
    /// Growing percentages, the last 100.
    pub stages: Option<Vec<u8>>,
    /// Milliseconds.
    pub soak_ms: Option<u64>,
    /// What a node that fails means.
    pub on_failure: Option<OnFailure>,
    /// Who.
    #[serde(default)]
    pub person: String,
}

async fn set_group(
    State(node): Node,
    Path(group): Path<String>,
    Body(body): Body<GroupBody>,
) -> Reply<Done> {
    let group: GroupName = parsed(&group)?;
    let change = PolicyChange {
        max_unavailable: body.max_unavailable.as_deref().map(parsed::<Cap>).transpose()?,
        allow_half: body.allow_half,
        allow_downtime: body.allow_downtime,
        min_healthy: body.min_healthy_ms.map(core::time::Duration::from_millis),
        allow_unproven: body.allow_unproven,
        stages: body.stages,
        soak: body.soak_ms.map(core::time::Duration::from_millis),
        on_failure: body.on_failure,
    };
    operate(&node, Operation::SetGroup { group, change, person: body.person }).await
}

#[derive(Deserialize)]
struct OverrideBody {
    fenced: bool,
    reason: String,
    person: String,
}

async fn override_permit(
    State(node): Node,
    Path(permit): Path<String>,
    Body(body): Body<OverrideBody>,
) -> Reply<Done> {
    let permit: PermitId = parsed(&permit)?;
    let OverrideBody { fenced, reason, person } = body;
    operate(&node, Operation::Override { permit, fenced, reason, person }).await
}

#[derive(Deserialize)]
struct QuarantineBody {
    group: String,
    on: bool,
    person: String,
}

async fn quarantine(
    State(handle): Node,
    Path(name): Path<String>,
    Body(body): Body<QuarantineBody>,
) -> Reply<Done> {
    let (group, node): (GroupName, NodeName) = (parsed(&body.group)?, parsed(&name)?);
    operate(&handle, Operation::Quarantine { group, node, on: body.on, person: body.person }).await
}

#[derive(Deserialize)]
struct Person {
    person: String,
}

async fn remove(
    State(handle): Node,
    Path(name): Path<String>,
    Body(body): Body<Person>,
) -> Reply<Done> {
    let node: NodeName = parsed(&name)?;
    operate(&handle, Operation::Remove { node, person: body.person }).await
}

#[derive(Deserialize)]
struct Lines {
    lines: Option<u32>,
}

async fn logs(
    State(node): Node,
    Path(group): Path<String>,
    Query(query): Query<Lines>,
) -> Reply<Vec<String>> {
    let group: GroupName = parsed(&group)?;
    let lines = query.lines.unwrap_or(50).min(LINES_MAX);
    let read = tokio::task::spawn_blocking(move || node.tail(&group, lines)).await;
    read.map(Json).map_err(|error| problem("busy", error))
}
