package mail

// Alteration is a change of the text or the parts of a message that a policy
// asks for. Which bytes that means depends on how the message is built: whoever
// alters makes it Edits.
type Alteration interface{ alteration() }

// The alterations.
type (
	// StripParts takes parts out and puts a note in their place.
	StripParts struct {
		Paths []string // of Part
		Why   string   // for the recipient, in plain words
	}
	// RenameParts keeps parts from being opened by a click: "a.exe" becomes
	// "a.DEFANGED-exe".
	RenameParts struct{ Paths []string }
	// TagSubject puts a text in front of the subject.
	TagSubject struct{ Text string }
	// AddText puts text at the top or the end of what there is to read.
	AddText struct {
		Top  bool
		Text string // plain
		HTML string // "": made of Text
	}
)

func (StripParts) alteration()  {}
func (RenameParts) alteration() {}
func (TagSubject) alteration()  {}
func (AddText) alteration()     {}
