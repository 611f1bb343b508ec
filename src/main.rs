//! orlop
fn main() {
    println!("hi");
}
