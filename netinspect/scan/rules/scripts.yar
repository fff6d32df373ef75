// Scripts that Windows runs by a double click and that fetch, unpack or start something. What only talks about such
// scripts has seldom all of the words that each condition asks for.

import "math"

rule Script_Downloader
{
    meta:
        description = "A script that fetches something and runs a command"
        category = "malware"
        severity = 2
    strings:
        $shell1 = "WScript.Shell" ascii wide nocase
        $shell2 = "Shell.Application" ascii wide nocase
        $fetch1 = "XMLHTTP" ascii wide nocase
        $fetch2 = "WinHttpRequest" ascii wide nocase
        $fetch3 = "URLDownloadToFile" ascii wide nocase
        $fetch4 = "bitsadmin" ascii wide nocase
        $fetch5 = "certutil" ascii wide nocase
        $fetch6 = "DownloadString" ascii wide nocase
        $fetch7 = "DownloadFile" ascii wide nocase
        $fetch8 = "mshta http" ascii wide nocase
        $run1 = ".Run" ascii wide nocase
        $run2 = ".Exec" ascii wide nocase
        $run3 = "ShellExecute" ascii wide nocase
        $run4 = "Win32_Process" ascii wide nocase
    condition:
        filesize < 2MB and 1 of ($shell*) and 1 of ($fetch*) and 1 of ($run*)
}

rule Script_Hidden_Code
{
    meta:
        description = "A script of the Windows script host that makes its code only when it runs"
        category = "malware"
        severity = 2
    strings:
        $host1 = "WScript.Shell" ascii wide nocase
        $host2 = "Shell.Application" ascii wide nocase
        $host3 = "Scripting.FileSystemObject" ascii wide nocase
        $make1 = "eval(" ascii wide nocase
        $make2 = "ExecuteGlobal" ascii wide nocase
        $make3 = "new Function(" ascii wide nocase
        $code1 = "fromCharCode" ascii wide nocase
        $code2 = "StrReverse" ascii wide nocase
        $code3 = "bin.base64" ascii wide nocase
    condition:
        filesize < 4MB and 1 of ($host*) and 1 of ($make*) and 1 of ($code*)
}

rule Script_Many_Characters
{
    meta:
        description = "A script put together from the numbers of its characters and executed"
        category = "malware"
        severity = 2
    strings:
        $char = /chrw?\(\s?[0-9&]/ ascii nocase
        $run = /\bexecute(global)?[ (]/ ascii nocase
    condition:
        filesize < 4MB and $run and #char > 100
}

rule Script_Encoded
{
    meta:
        description = "A script in Microsoft's script encoding (VBE, JSE)"
        category = "malware"
        severity = 2
    strings:
        $start = "#@~^"
        $end = "^#~@"
    condition:
        $start in (0..200) and $end
}

rule Html_Application
{
    meta:
        description = "An HTML application, which runs outside of the browser's walls"
        category = "banned-type"
        severity = 2
    strings:
        $application = "<hta:application" ascii wide nocase
    condition:
        $application
}

rule Script_Component
{
    meta:
        description = "A scriptlet: a component that is registered by reading it"
        category = "banned-type"
        severity = 2
    strings:
        $let = "<scriptlet" ascii nocase
        $registration = "<registration" ascii nocase
        $script = "<script" ascii nocase
        $host = "ActiveXObject" ascii nocase
        $object = "CreateObject" ascii nocase
    condition:
        filesize < 2MB and $script and $registration and ($let or $host or $object)
}

rule PowerShell_Downloader
{
    meta:
        description = "PowerShell that fetches and executes, and wants not to be seen or asked"
        category = "malware"
        severity = 2
    strings:
        $fetch1 = "DownloadString" ascii wide nocase
        $fetch2 = "DownloadFile" ascii wide nocase
        $fetch3 = "DownloadData" ascii wide nocase
        $fetch4 = "Invoke-WebRequest" ascii wide nocase
        $fetch5 = "Invoke-RestMethod" ascii wide nocase
        $fetch6 = "Start-BitsTransfer" ascii wide nocase
        $fetch7 = "FromBase64String" ascii wide nocase
        $run1 = "Invoke-Expression" ascii wide nocase
        $run2 = /\biex\b/ ascii wide nocase
        $run3 = "Start-Process" ascii wide nocase
        $run4 = "Reflection.Assembly" ascii wide nocase
        $quiet1 = /-w(in(dowstyle)?)? ?(hidden|1)\b/ ascii wide nocase
        $quiet2 = /-e(xecution)?p(olicy)? bypass/ ascii wide nocase
        $quiet3 = /-(nop|noprofile|noni|noninteractive)\b/ ascii wide nocase
        $quiet4 = /-e(nc|ncodedcommand)? [A-Za-z0-9+\/]{40}/ ascii wide nocase
    condition:
        filesize < 2MB and 1 of ($fetch*) and 1 of ($run*) and 1 of ($quiet*)
}

rule PowerShell_Encoded
{
    meta:
        description = "A command line that gives PowerShell its commands in base64"
        category = "malware"
        severity = 2
    strings:
        // Two patterns: one that spans both costs 120 steps for each time the word stands in a text.
        $shell = "powershell" ascii wide nocase
        $command = /-e(n|nc|nco|ncod|ncode|ncoded|ncodedcommand)? +["']?[A-Za-z0-9+\/]{60}/ ascii wide nocase
    condition:
        filesize < 4MB and $shell and for any i in (1..#command) : (
            @command[i] > 0 and $shell in (math.max(0, @command[i] - 280)..@command[i])
        )
}

rule Batch_Downloader
{
    meta:
        description = "A batch file that fetches a program"
        category = "malware"
        severity = 2
    strings:
        $batch = "@echo off" ascii nocase
        $fetch1 = /certutil(\.exe)? [^\r\n]{0,60}-urlcache/ ascii nocase
        $fetch2 = /bitsadmin(\.exe)? [^\r\n]{0,60}\/transfer/ ascii nocase
        $fetch3 = /powershell(\.exe)? [^\r\n]{0,120}(download|webrequest|iwr |-enc)/ ascii nocase
        $fetch4 = /curl(\.exe)? [^\r\n]{0,80}https?:[^\r\n]{0,100}\.(exe|dll|scr|ps1|vbs|js|hta|bat)\b/ ascii nocase
        $fetch5 = /mshta(\.exe)? +["']?https?:/ ascii nocase
        $fetch6 = /regsvr32(\.exe)? [^\r\n]{0,60}\/i:https?:/ ascii nocase
    condition:
        filesize < 2MB and $batch in (0..512) and 1 of ($fetch*)
}

rule Autorun_Inf
{
    meta:
        description = "What Windows runs when a volume is put in"
        category = "banned-type"
        severity = 2
    strings:
        $section = "[autorun]" ascii nocase
        $open = /\n[ \t]*(open|shellexecute|shell\\[a-z]{1,20}\\command)[ \t]*=/ ascii nocase
    condition:
        filesize < 64KB and $section in (0..1024) and $open
}

rule Console_File_Script
{
    meta:
        description = "A console of Windows' management that runs a script"
        category = "exploit"
        severity = 2
    strings:
        $console = "<MMC_ConsoleFile" ascii wide nocase
        $resource = "apds.dll/redirect" ascii wide nocase
        $script = "javascript:" ascii wide nocase
        $shell = /(powershell|cmd\.exe|mshta|wscript)/ ascii wide nocase
    condition:
        $console in (0..1024) and ($resource or $script or $shell)
}

rule Settings_Shortcut
{
    meta:
        description = "A shortcut of Windows' settings, which runs a command line"
        category = "malware"
        severity = 2
    strings:
        $kind = "PCSettings" ascii wide nocase
        $link = /<DeepLink>[^<]{0,400}(cmd|powershell|mshta|script|rundll32)/ ascii wide nocase
    condition:
        filesize < 64KB and $kind and $link
}
