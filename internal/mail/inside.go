package mail

import "time"

// Inside is what is in a message, taken apart so that no reader sees more of it
// than we do: every part and every name that some mail program could show.
type Inside struct {
	Parts []Part
	// Ambiguous says where mail programs would see different things.
	Ambiguous []string
	// Unseen says what was not looked at, for a limit was reached or it could
	// not be opened. Then more may be inside than Parts tells.
	Unseen []string
	// Text is what there is to read, decoded, HTML without its tags: the
	// beginning of it.
	Text string
	URLs []URL // in text and HTML, each once
	Took time.Duration
}

// Part is one part of a message, or one file in an archive among them.
type Part struct {
	// Path is the place: "1.2" is the second part in the first; what lies in an
	// archive has its name behind that: "1.2/invoice.zip/a.exe".
	Path string
	// Names are all names that the part may be shown under, decoded; the first
	// is the one that most programs show.
	Names    []string
	Declared string // media type in lower case, "" where none is given or it can't be read
	Detected string // media type of the content
	// Inline, and not shown as an attachment.
	Inline bool
	Size   int64  // decoded; of a file in an archive as far as it was read
	SHA256 string // in hex; "" for what was not read to its end
	// Archive is the kind of archive that this is: "zip", "7z"…; "" for none.
	Archive   string
	Depth     int  // how many archives are around it
	Encrypted bool // its content, or the list of its files, can't be read
	Macros    bool // an Office document that may run code
	// Program: the content is one of an operating system or a script.
	Program bool
	// Protected parts can't be changed without notice: they are signed or
	// encrypted (S/MIME, OpenPGP), or lie in such a part.
	Protected bool
	// At and Length are where the encoded content stands in the body of the
	// message; Length is 0 for what lies in an archive.
	At, Length int64
}

// URL is a link in a message.
type URL struct {
	Host string // in lower case, of an international name the ASCII form
	Text string // the URL as written, cut where it is very long
}
