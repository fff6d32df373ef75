// Rules of the package. `category` and `severity` (1 is the highest) stand in `meta`; without them a rule means malware, 1.
// Patterns are written in hex where their text would make a scanner find this file.

rule EICAR_Test_File
{
    meta:
        description = "The antivirus industry's agreed test file"
        category = "malware"
        severity = 1
    strings:
        $start = { 58 35 4F 21 50 25 40 41 50 5B 34 5C 50 5A 58 35 34 28 50 5E 29 37 43 43 29 37 7D 24 45 49 43 41 52 2D 53 54 41 4E 44 41 52 44 }
    condition:
        // The definition says: first in the file. Blank octets and a byte order mark before it change nothing.
        $start in (0..32)
}

rule Script_Dropper
{
    meta:
        description = "A script that fetches or writes a program and runs it"
        category = "malware"
        severity = 2
    strings:
        $shell = "WScript.Shell" ascii wide nocase
        $fetch1 = "XMLHTTP" ascii wide nocase
        $fetch2 = "WinHttpRequest" ascii wide nocase
        $save1 = "ADODB.Stream" ascii wide nocase
        $save2 = "SaveToFile" ascii wide nocase
        $run = ".Run" ascii wide nocase
        $exec = ".Exec" ascii wide nocase
    condition:
        filesize < 2MB and $shell and 1 of ($fetch*) and all of ($save*) and ($run or $exec)
}
