package mail

// FindingAttachment is a part that the operator's lists don't want. Value: the
// class, from those below; Part: its path; List: the list; Text: its names and
// why. Without a Part it is about what could not be looked into.
const FindingAttachment = "attachment"

// The classes of a FindingAttachment.
const (
	AttachmentName       = "banned-name"
	AttachmentExtension  = "banned-extension"
	AttachmentDouble     = "double-extension" // "invoice.pdf.exe"
	AttachmentCLSID      = "clsid"            // a name that ends in {8-4-4-4-12}: Windows hides that
	AttachmentDeclared   = "banned-type"      // what it says that it is
	AttachmentContent    = "banned-content"   // what it is
	AttachmentProgram    = "program"
	AttachmentMacros     = "macros"
	AttachmentEncrypted  = "encrypted"
	AttachmentNotAllowed = "not-allowed" // on no allow list
	AttachmentMismatch   = "mismatch"    // name, declared type and content don't agree
	AttachmentUnseen     = "unseen"      // an allow list can't be kept: nobody could look inside
)
