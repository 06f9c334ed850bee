"""One file per model family, each giving objects that keep the Model protocol."""
