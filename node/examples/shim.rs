//! A program that is a shim and nothing else, for the tests of the runtime: what `baton shim` is.

fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().as_deref() != Some("shim".as_ref()) {
        eprintln!("usage: shim shim --dir DIR [--detach] [--process-tree]");
        return std::process::ExitCode::from(2);
    }
    baton_node::runtime::shim::main(args)
}
