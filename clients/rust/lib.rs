//! The messages and clients of assetwatch, for prost and tonic.

pub mod v1 {
    include!("src/assetwatch/v1/assetwatch.v1.rs");
}

pub mod pieces {
    pub mod v1 {
        include!("src/assetwatch/pieces/v1/assetwatch.pieces.v1.rs");
    }
}
