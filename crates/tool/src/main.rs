//! The program `rbytea`.

fn main() {
    rbytea_tool::main()
}
