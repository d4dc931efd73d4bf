//! The cells of a run as matrices: one per receive method, stream count, direction, and with and without TLS.
//!
//! Only arranges; which cell is better is `advice`, how it looks is `terminal` and `chart`.

use std::collections::HashMap;

use super::schema::Cell;

/// Matrices of one document; the cells of more are counted in [`Grids::left_out`].
pub const GRIDS_MAX: usize = 64;
/// Rows of one matrix.
pub const METHODS_MAX: usize = 32;
/// Columns of one matrix.
pub const SIZES_MAX: usize = 128;

/// All matrices of a run, in the order in which they come in the document.
#[derive(Debug, Default)]
pub struct Grids<'a> {
    /// At most [`GRIDS_MAX`].
    pub grids: Vec<Grid<'a>>,
    /// Cells beyond the bounds, and those that repeat an earlier one.
    pub left_out: usize,
}

/// Methods × sizes for one receive method, stream count and direction, with or without TLS.
#[derive(Debug)]
pub struct Grid<'a> {
    /// How the receiver took the bytes. Foreign text.
    pub receive: &'a str,
    /// Connections per direction.
    pub streams: u32,
    /// `send`, `receive` or `both`. Foreign text.
    pub direction: &'a str,
    /// Whether the streams went through TLS.
    pub tls: bool,
    /// Rows, in the order of the document. Foreign text.
    pub methods: Vec<&'a str>,
    /// Columns, ascending, in bytes.
    pub sizes: Vec<u64>,
    /// Index in the document's cells and the cell, by row and column.
    cells: HashMap<(&'a str, u64), (usize, &'a Cell)>,
}

impl<'a> Grids<'a> {
    /// Arranges the cells.
    pub fn of(cells: &'a [Cell]) -> Self {
        let mut grids = Self::default();
        for (index, cell) in cells.iter().enumerate() {
            if !grids.place(index, cell) {
                grids.left_out += 1;
            }
        }
        for grid in &mut grids.grids {
            grid.sizes.sort_unstable();
        }
        grids
    }

    fn place(&mut self, index: usize, cell: &'a Cell) -> bool {
        let position = self.grids.iter().position(|grid| grid.takes(cell));
        let position = match position {
            Some(position) => position,
            None if self.grids.len() == GRIDS_MAX => return false,
            None => {
                self.grids.push(Grid::new(cell));
                self.grids.len() - 1
            }
        };
        self.grids[position].place(index, cell)
    }
}

impl<'a> Grid<'a> {
    /// The cell of a method and a size, with its index in the document.
    pub fn cell(&self, method: &str, size_bytes: u64) -> Option<(usize, &'a Cell)> {
        self.cells.get(&(method, size_bytes)).copied()
    }

    /// The cells of one size, from the first row to the last.
    pub fn column(&self, size_bytes: u64) -> impl Iterator<Item = (usize, &'a Cell)> {
        self.methods.iter().filter_map(move |method| self.cell(method, size_bytes))
    }

    /// All its cells, column by column.
    pub fn all(&self) -> impl Iterator<Item = (usize, &'a Cell)> {
        self.sizes.iter().flat_map(|size| self.column(*size))
    }

    fn new(cell: &'a Cell) -> Self {
        Self {
            receive: &cell.receive,
            streams: cell.streams,
            direction: &cell.direction,
            tls: cell.tls,
            methods: Vec::new(),
            sizes: Vec::new(),
            cells: HashMap::new(),
        }
    }

    fn takes(&self, cell: &Cell) -> bool {
        let [streams, tls] = [self.streams == cell.streams, self.tls == cell.tls];
        streams && tls && self.receive == cell.receive && self.direction == cell.direction
    }

    fn place(&mut self, index: usize, cell: &'a Cell) -> bool {
        let key = (cell.method.as_str(), cell.size_bytes);
        let fits = has_room(&mut self.methods, key.0, METHODS_MAX) && has_room(&mut self.sizes, key.1, SIZES_MAX);
        if !fits || self.cells.contains_key(&key) {
            return false;
        }
        self.cells.insert(key, (index, cell));
        true
    }
}

/// Whether `item` is among `items`, after adding it if there is room.
fn has_room<T: PartialEq>(items: &mut Vec<T>, item: T, items_max: usize) -> bool {
    if items.contains(&item) {
        return true;
    }
    if items.len() == items_max {
        return false;
    }
    items.push(item);
    true
}

#[cfg(test)]
mod tests {
    use super::super::sample::{cell, document, not_read};
    use super::*;

    #[test]
    fn one_matrix_per_combination() {
        let mut cells = document().cells;
        cells.push(not_read(cell("write", 1 << 20, 9.0, 0.1, 1.0)));
        let arranged = Grids::of(&cells);
        assert_eq!((arranged.grids.len(), arranged.left_out), (2, 0));
        let grid = &arranged.grids[0];
        assert_eq!(grid.methods, ["write", "sendfile", "splice"]);
        assert_eq!(grid.sizes, [4 << 10, 64 << 10, 256 << 10]);
        assert_eq!(grid.cell("sendfile", 4 << 10).map(|(index, _)| index), Some(3));
        assert_eq!(grid.column(4 << 10).count(), 3);
        assert_eq!(arranged.grids[1].receive, "trunc");
    }

    #[test]
    fn a_document_of_endless_rows_and_columns_is_bounded() {
        let mut cells: Vec<Cell> = (0..200).map(|size| cell("write", size, 1.0, 0.1, 1.0)).collect();
        cells.extend((0..50).map(|number| cell(&format!("m{number}"), 0, 1.0, 0.1, 1.0)));
        cells.push(cell("write", 0, 1.0, 0.1, 1.0));
        let arranged = Grids::of(&cells);
        assert_eq!(arranged.grids[0].sizes.len(), SIZES_MAX);
        assert_eq!(arranged.grids[0].methods.len(), METHODS_MAX);
        assert_eq!(arranged.left_out, 72 + 19 + 1);
    }
}
