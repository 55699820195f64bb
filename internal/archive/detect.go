package archive

import "io"

func detect(head []byte) Type { return Type{Media: "application/octet-stream"} }

func detectFile(r io.ReaderAt, size int64) Type { return Type{Media: "application/octet-stream"} }
