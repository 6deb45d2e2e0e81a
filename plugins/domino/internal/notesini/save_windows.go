package notesini

import "os"

// A new file inherits the rights of its folder there, and a folder cannot be synced.
func sameOwner(*os.File, os.FileInfo) error { return nil }

func syncFolder(string) error { return nil }
