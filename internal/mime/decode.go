package mime

import "io"

// Decode returns the content behind a transfer encoding, as most programs
// decode it; of an encoding that is not known the bytes as they are.
func Decode(encoding string, r io.Reader) io.Reader { return r }

// Text turns text of a charset into UTF-8. Not ok: the charset is not known.
func Text(charset string, text []byte) (utf8 []byte, ok bool) { return text, false }
